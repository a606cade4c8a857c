"""HTTP and timer functions: parse, authorise, call the domain, answer. See README.md."""
