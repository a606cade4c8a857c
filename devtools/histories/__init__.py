"""Histories of orchestrations, replayed without a host: `./dev upgrade-check`, and a player of one orchestrator.

Doors: `player.Play` plays a host for one instance, `stored.read` reads what a host has stored, `azure_storage.Hub` what
a deployed one has, `judging.judge` says whether an instance would go on with other code, `package.Package` runs the
orchestrators of another folder.

Not here: what a turn does (`orchestrators/`), and cases of conversations (`devtools/cases`).
"""
