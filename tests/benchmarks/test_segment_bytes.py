"""The bytes that a step takes of an index on the device, counted by hand."""

from __future__ import annotations

from benchmarks.gpu.segment_bytes import shapes, step


def test_each_segment_reads_its_edges_two_runs_of_blocks_and_four_searches() -> None:
    rows, documents, vocabulary, block, beams = 5000, 90, 64, 16, 6
    one, two, four = (
        step(shapes(rows, documents, vocabulary, segments, block), beams).index for segments in (1, 2, 4)
    )
    edges, runs, ends, places, shift = 3 * block * 4, 2 * vocabulary // 8, 2 * 7 * 8, 2 * 13 * 8, 8
    assert two - one == beams * (edges + runs + ends + places + shift)
    assert four - one == 3 * (two - one)
    unpacked = beams * vocabulary
    assert one == (two - one) + unpacked
