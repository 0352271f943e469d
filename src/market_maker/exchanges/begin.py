"""How long a stream may take to say what each begins with.

Its first words may be lost, and an account without orders has no others to say: whoever waited for them would
wait for ever.
"""

from typing import Final

BEGIN_S: Final = 10.0
NOT_BEGUN: Final = f"expected the stream to say what there is within {BEGIN_S:g} s, was nothing"
