"""Files of a conversation: what an attachment holds (`analyzer`), and files made from content (`generator`)."""
