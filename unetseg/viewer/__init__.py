"""Pictures of a result for people who want to look."""
