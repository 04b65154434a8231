"""The life of a job and of what it leaves behind: one file a step; each speaks to the outside through ports."""
