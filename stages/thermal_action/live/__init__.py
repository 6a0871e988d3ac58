"""Following sensors as they measure: new frames as they come, whatever happens to where they come from."""
