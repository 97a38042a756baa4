"""A corpus that changes: one folder of immutable segments and a manifest that is replaced in one step."""
