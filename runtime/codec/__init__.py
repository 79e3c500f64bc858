"""Values as JSON text and back, without ever changing the type of anything on the way.

Natives (str, int, float, bool, None, list, dict with str keys) are written as themselves. Everything else
is an object with one key that starts with "$" and says what it was: `{"$tuple": [1, 2]}`, `{"$model":
[...]}`; a user's own dict with such a key is written as `{"$dict": pairs}`. A value that cannot come back
as exactly what it was is refused with the path of the part that cannot. No code is imported and no
constructor named by a text is called that the program has not loaded itself.
"""

from carrara.runtime.codec.errors import CodecError
from carrara.runtime.codec.text import decode, dumps, encode, json_writer, lower

__all__ = ["CodecError", "decode", "dumps", "encode", "json_writer", "lower"]
