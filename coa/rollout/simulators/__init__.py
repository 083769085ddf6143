"""Answer searches while a policy practises, from what was recorded or by a model."""
