"""The tours of `gk demo`: each shows one job for real, told in plain words."""
