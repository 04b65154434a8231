"""One exchange with a cohort as a state machine: who answered, who is waited for, when it closes."""
