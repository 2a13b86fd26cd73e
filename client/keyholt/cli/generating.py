"""The command ``generate``: a new random value, written without being seen.

- Every character is drawn by itself from the system's generator (``secrets``), each as likely as any other of
  its set; how many bits that comes to is said.
- Words are made of syllables, a consonant and a vowel: they can be said and typed, and no list is needed.
  Three syllables are a word, of 80 ** 3 that there are.
"""

from __future__ import annotations

import math
import secrets
import string
from argparse import Namespace
from typing import Final

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.descriptors import STDOUT, write_all
from keyholt.cli.errors import UsageError
from keyholt.cli.offering import unlocked
from keyholt.cli.output import say, show
from keyholt_protocol.limits import MAX_VERSION

__all__ = ["COMMANDS"]

CHARSETS: Final = {
    "alnum": string.ascii_letters + string.digits,
    "ascii": string.ascii_letters + string.digits + string.punctuation,
    "hex": "0123456789abcdef",
    "digits": string.digits,
}

LENGTH: Final = 24
"""Characters: 142 bits of letters and digits, more than any search gets through."""

LENGTHS: Final = (4, 4096)
WORDS: Final = (1, 100)

CONSONANTS: Final = "bdfghjklmnprstvz"
VOWELS: Final = "aeiou"
SYLLABLES: Final = 3
"""Of a word."""


def generate(options: Namespace) -> int:
    """The command ``generate``."""
    if options.words is not None and (options.length is not None or options.charset is not None):
        raise UsageError("give --words, or --length and --charset, not both")
    if options.words is not None:
        value, bits = _words(options.words)
    else:
        value, bits = _characters(options.length or LENGTH, CHARSETS[options.charset or "alnum"])
    try:
        with unlocked(options) as agent:
            result = agent.put(options.path, value, if_version=options.if_version)
        about = {"path": options.path, "version": result.version, "created": result.created, "bits": bits}
        if options.json:
            show({**about, "value": value.decode() if options.show else None})
            return 0
        say(f"{options.path}: version {result.version}, of {bits} bits")
        if options.show:
            write_all(STDOUT, value)
            write_all(STDOUT, b"\n")
    finally:
        value[:] = bytes(len(value))
    return 0


def _characters(length: int, charset: str) -> tuple[bytearray, int]:
    """A value of so many characters, the caller's to wipe, and its bits, rounded down."""
    value = bytearray(length)
    for at in range(length):
        value[at] = ord(secrets.choice(charset))
    return value, int(length * math.log2(len(charset)))


def _words(count: int) -> tuple[bytearray, int]:
    """So many words with hyphens between them, and their bits."""
    size = 2 * SYLLABLES
    value = bytearray(b"-" * (count * (size + 1) - 1))
    for word in range(count):
        for letter in range(size):
            value[word * (size + 1) + letter] = ord(secrets.choice(VOWELS if letter % 2 else CONSONANTS))
    return value, int(count * SYLLABLES * math.log2(len(CONSONANTS) * len(VOWELS)))


COMMANDS: Final = (
    Command(
        words=("generate",),
        help="Writes a new random value as the next version of a secret, and does not show it.",
        run=generate,
        json="an object: path, version, created, bits, value (null without --show)",
        parameters=(
            Parameter(names=("PATH",), help="the secret's path", kind=Kind.SECRET),
            Parameter(
                names=("--length",),
                help=f"how many characters (default: {LENGTH})",
                kind=Kind.NUMBER,
                bounds=LENGTHS,
                metavar="N",
            ),
            Parameter(
                names=("--charset",),
                help="of which characters: alnum (5.95 bits each, the default), ascii (letters, digits and "
                "punctuation, 6.55), hex (4) or digits (3.32)",
                metavar="SET",
                choices=tuple(CHARSETS),
            ),
            Parameter(
                names=("--words",),
                help="instead so many words of three syllables, such as rofuda-mikebo: 18.9 bits each",
                kind=Kind.NUMBER,
                bounds=WORDS,
                metavar="N",
            ),
            Parameter(
                names=("--if-version",),
                help="write only if this is the newest version, 0: if there is none (default: in any case)",
                kind=Kind.NUMBER,
                bounds=(0, MAX_VERSION),
                metavar="N",
            ),
            Parameter(names=("--show",), help="print the value too", kind=Kind.FLAG),
        ),
    ),
)
