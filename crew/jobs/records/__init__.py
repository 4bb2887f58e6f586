"""Records of jobs as others see them: the JSON of a record, the members of URL jobs, and change events."""
