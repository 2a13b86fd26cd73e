"""The wire of Keyholt, without I/O: frames, messages, operations, errors, the connection.

Nothing is imported here, so that a program pays only for the modules it names.
"""
