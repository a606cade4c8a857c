"""Behind `./dev`: set-up, the local stack, tests, checks, locks. See README.md beside this file."""
