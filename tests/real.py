"What the tests against real programs share: where those are, and what is said without them"

import os
from pathlib import Path

import pytest

TOOLS = Path(os.environ.get('IMBAL_AL_TOOLS') or Path(__file__).parents[1] / '.venv/tools')
MAY_SKIP = ('needs a GPU', 'DINOv2: ')  # The last one: an extra of 90 MB


def tool(name):
    "The path of a program of `make tools`; without it the test skips in a line that says what to do"
    path = TOOLS / 'bin' / name
    if not path.exists():
        pytest.skip(f'{name} is not there; `make tools` installs Label Studio and datumaro into .venv/tools (1 GB)')
    return str(path)


def unallowed(skipped):
    "Of the skipped tests' reports the reasons that CI does not let pass"
    said = [report.longrepr for report in skipped]
    reasons = {str(one[-1] if isinstance(one, tuple) else one) for one in said}
    return sorted(reason for reason in reasons if not any(word in reason for word in MAY_SKIP))
