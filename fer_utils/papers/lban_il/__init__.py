"""Li et al. 2021: LBAN-IL, fixed random filters, attention, and the islets loss."""
