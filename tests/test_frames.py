"""Dataframes in and out, whichever library they are of, and in whichever version."""

from __future__ import annotations

import subprocess
import venv
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest

import batchkit
from batchkit import InputError
from batchkit.emulator import Emulator

from .conftest import World
from .tools.shell import rows

ROOT = Path(__file__).parent.parent
FRAME = """
import sys
import pandas
import batchkit
from batchkit import InputError

frame = pandas.DataFrame(
    {"sku": ["x", "a", "b"], "n": [0, 1, 2], "on": pandas.to_datetime(["2026-11-01"] * 3), "t": [None, "p", None]}
)
frame = frame[frame.n > 0]  # its rows are numbered 1 and 2 now
lines = batchkit.lines(frame, deployment="d", custom_id="sku", body="{n} {on} {t}", on_missing="empty")
for _ in range(2):
    texts = [line.body["messages"][0]["content"] for line in lines]
    assert texts == ["1 2026-11-01T00:00:00 p", "2 2026-11-01T00:00:00 "], texts
with batchkit.Client(ledger=sys.argv[1] + "/ledger") as client:
    results = client.run(lines, name="frame", out=sys.argv[1] + "/out.csv", join=frame)
with open(sys.argv[1] + "/out.csv") as out:
    assert out.readline().startswith("sku,n,on,t,custom_id,ok,text,"), "no column that only numbers rows"
    assert out.readline().startswith("a,1,2026-11-01T00:00:00,p,a,true,")
assert list(results.to_arrow().to_pandas()["custom_id"]) == ["a", "b"]
for wrong in (frame["t"], frame.groupby("t"), pandas.DataFrame({"sku": ["a", 5]})):
    try:
        list(batchkit.lines(wrong, deployment="d", body="{sku}"))
    except InputError as error:
        assert error.hint, error
    else:
        raise AssertionError(wrong)
print(pandas.__version__)
"""


def test_dates_and_what_pandas_numbers_its_rows_by(world: World, tmp_path: Path) -> None:
    frame = pyarrow.table(
        {
            "day": [date(2026, 11, 1), date(2026, 11, 2)],
            "at": [datetime(2026, 11, 1, 8), None],
            "price": [Decimal("9.90"), Decimal(7)],
            "__index_level_0__": [7, 9],
        }
    )
    made = batchkit.lines(frame, deployment="gpt-4o-batch", custom_id="day", body="{price}")
    with world.client() as client:
        client.run(made, name="days", out=tmp_path / "out.csv", join=frame)
    first, second = rows(tmp_path / "out.csv")
    assert list(first)[:4] == ["day", "at", "price", "custom_id"]
    assert (first["day"], first["at"], first["price"]) == ("2026-11-01", "2026-11-01T08:00:00", "9.90")
    assert (second["custom_id"], second["at"]) == ("2026-11-02", "")


def test_what_arrow_has_no_type_for() -> None:
    class Frame:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pyarrow.array(["a", 5]).__arrow_c_stream__(requested_schema)  # as pandas does

    with pytest.raises(InputError, match=r"the Frame cannot be read as Arrow: .*int") as refused:
        list(batchkit.lines(Frame(), deployment="d", body="{a}"))
    assert "to_dict('records')" in refused.value.hint


@pytest.mark.deep
@pytest.mark.parametrize(
    "packages",
    [["pandas==1.5.3", "numpy<2", "pyarrow==19.0.1"], ["pandas==2.1.4", "numpy<2", "pyarrow==19.0.1"],
     ["pandas==2.2.3", "numpy<2", "pyarrow==19.0.1"], ["pandas>=3", "pyarrow>=21"]],
    ids=lambda packages: packages[0],
)  # fmt: skip
def test_every_pandas(packages: list[str], tmp_path: Path, batchkit_emulator: Emulator) -> None:
    """From before it had the Arrow PyCapsule interface to after; asks a package index for them."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = str(tmp_path / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", *packages, str(ROOT)], check=True)
    (tmp_path / "frame.py").write_text(FRAME)
    done = subprocess.run([python, str(tmp_path / "frame.py"), str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:1]) == (0, packages[0][8]), done.stderr
    assert len(batchkit_emulator.batches) == 1
