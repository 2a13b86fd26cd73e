"""The completion scripts, a module for each shell; all are made from the table of commands.

Secret paths come from ``keyholt list PREFIX`` at the moment of completion, so they are only offered while the
agent is unlocked. A script runs no other command of ``keyholt``.
"""
