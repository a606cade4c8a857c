"""The public package: what the code of those who extend Parley imports.

    from parley.tools import ToolArguments, ToolContext, ToolOutput, tool

Names that are imported from here stay; modules of `shared/` may move at any time. Not here: any logic.
"""
