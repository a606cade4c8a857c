"""The steps of a turn: glue between the durable boundary and the domain. See README.md."""
