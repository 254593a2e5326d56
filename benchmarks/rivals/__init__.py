"""Other systems on the same papers, for users to run; nothing is claimed that was not run."""
