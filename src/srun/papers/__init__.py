"""The thesis, its ablations and the attribution paper, run again beside what they print.

Each has a room: ``experiment`` says what runs, ``report`` or ``tables`` and ``figures`` write what it measured.
``reproduce`` calls the flow for all three; nothing below imports this package.
"""
