"""Zhou, Fan, Tjahjadi & Das Choudhury: DAF-CNN, attention to channels and places, and the triplet-centre loss; in Keras 3."""

#: Modules that need Keras, from the extra ``book``. They register nothing, so nobody imports them who looks for experiments or networks.
ON_DEMAND = ("augment", "backend", "callbacks", "model", "objective", "training", "twin")
