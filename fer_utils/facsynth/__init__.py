"""The face generator: identities, expressions, conditions and a crowd, rendered by path tracing.

Rendering needs the extra ``synth`` (``anny`` and ``mitsuba``); reading the faces that ship does not.
"""
