"""Figures from plain records: what is drawn, in which colours, and that it reads on any background."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sdsdemo.core.intervals import paired_difference
from sdsdemo.evaluation import figures
from sdsdemo.evaluation.loss_charts import COLOURS, Curves, _log_ticks, difference_by_timestep, loss_by_timestep

CAPTIONS = ("a red square", "a blue square")


def curves(noises: int = 4, model: str = "Mini diffusion", shift: float = 0.02) -> Curves:
    shared_TN = np.random.default_rng(0).normal(0.2, 0.01, (5, noises))
    own_TN = np.random.default_rng(1).normal(shift, 0.002, (5, noises))
    return Curves(model=model, timestep_T=np.arange(5) * 100, loss_CTN=np.stack([shared_TN, shared_TN + own_TN]))


def test_each_caption_has_its_own_colour_and_dash():
    one = curves()
    traces = loss_by_timestep([one], CAPTIONS).data
    np.testing.assert_allclose([trace.y for trace in traces], one.loss_CTN.mean(axis=2))
    assert [trace.line.color for trace in traces] == list(COLOURS[:2]) == ["#2563eb", "#d97706"]
    assert len({trace.line.dash for trace in traces}) == 2


def test_the_difference_is_b_minus_a_with_its_paired_band():
    one = curves()
    paired = paired_difference(*one.loss_CTN)
    high, low, line = difference_by_timestep([one]).data
    np.testing.assert_allclose(line.y, (one.loss_CTN[1] - one.loss_CTN[0]).mean(axis=1))
    np.testing.assert_allclose(low.y, paired.low_T)
    np.testing.assert_allclose(high.y, paired.high_T)
    assert low.fill == "tonexty"


def test_points_take_the_colour_of_the_caption_that_they_speak_for():
    for shift, colour in ((0.02, COLOURS[0]), (-0.02, COLOURS[1])):
        assert set(difference_by_timestep([curves(shift=shift)]).data[-1].marker.color) == {colour}


def test_one_noise_draw_gives_no_band_and_says_why():
    figure = difference_by_timestep([curves(noises=1)])
    assert len(figure.data) == 1
    assert any("two noise draws" in note.text for note in figure.layout.annotations)


def test_zero_is_always_in_view():
    for shift in (0.02, -0.02):
        low, high = difference_by_timestep([curves(shift=shift)]).layout.yaxis.range
        assert low < 0 < high


def test_backgrounds_are_transparent_and_texts_have_no_own_colour():
    for figure in (loss_by_timestep([curves()], CAPTIONS), difference_by_timestep([curves()])):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.font.color is None


def test_two_models_get_a_panel_each_and_one_legend():
    figure = loss_by_timestep([curves(model="one"), curves(model="two")], CAPTIONS)
    assert {trace.yaxis for trace in figure.data} == {"y", "y2"}
    assert sum(trace.showlegend for trace in figure.data) == 2
    assert [note.text for note in figure.layout.annotations] == ["one", "two"]


@pytest.mark.parametrize("factor", [2.0, 1000.0])
def test_losses_over_decades_get_a_logarithmic_axis(factor):
    one = curves()
    wide = Curves(model="m", timestep_T=one.timestep_T, loss_CTN=one.loss_CTN * np.geomspace(1, factor, 5)[:, None])
    assert (loss_by_timestep([wide], CAPTIONS).layout.yaxis.type == "log") == (factor > 20)


def test_a_loss_that_is_no_number_is_drawn_as_a_gap():
    broken = curves()
    broken.loss_CTN[0, 2] = np.nan
    assert np.isnan(loss_by_timestep([broken], CAPTIONS).data[0].y[2])
    difference_by_timestep([broken])


def test_learning_curves_have_a_panel_a_title_and_a_line_a_model():
    points = [{"step": 50, "loss": 2.0}, {"step": 100, "loss": 1.0}]
    figure = figures.curves_figure({title: {"one": points, "two": points} for title in "abcd"})
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list("abcd")
    assert [len(axes.lines) for axes in shown] == [2] * 4
    assert shown[0].lines[0].get_ydata().tolist() == [2.0, 1.0]


def test_the_curve_over_tag_shares_has_every_interval():
    rows = [{"share": s, "value": v, "low": v - 0.1, "high": v + 0.2, "n": 9} for s, v in ((0.0, 0.5), (0.8, 0.2))]
    axes = figures.by_share_figure(rows, 0.25).axes[0]
    (bars,) = axes.containers
    ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert ends == [pytest.approx([40, 70]), pytest.approx([10, 40])]
    assert bars.lines[0].get_xdata().tolist() == [0.0, 80.0]


def test_bars_have_their_height_their_interval_and_chance() -> None:
    one = {"value": 0.5, "low": 0.4, "high": 0.7, "n": 9}
    two = {"value": 0.2, "low": 0.1, "high": 0.25, "n": 9}
    models = {"one": {"text": one}, "two": {"text": two}}
    result: Any = {"chance": {"text": 0.25}, "n": 9, "models": models}
    axes = figures.shares_figure(result).axes[0]
    bars = [found for found in axes.containers if len(found) and hasattr(found, "patches")]
    assert [bar.patches[0].get_height() for bar in bars] == pytest.approx([50, 20])
    ends = [bar.errorbar.lines[2][0].get_segments()[0][:, 1].tolist() for bar in bars]
    assert ends == [pytest.approx([40, 70]), pytest.approx([10, 25])]
    assert [line.get_ydata().tolist() for line in axes.lines if line.get_linestyle() == "--"] == [[25, 25]]


def test_captions_and_model_names_are_escaped_in_figures():
    figure = loss_by_timestep([curves(model="<a href=x>"), curves()], ["<b>bold", "x" * 200])
    names = [trace.name for trace in figure.data]
    assert "<" not in "".join(names) + figure.layout.annotations[0].text
    assert len(names[1]) < 60


def test_log_axis_ticks_are_readable_whole_numbers() -> None:
    assert _log_ticks(np.array([0.013, 0.4])) == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]


def test_effects_stand_at_their_value_with_their_interval_and_each_base() -> None:
    one = {"cell": "a", "control": "b", "value": 0.1, "low": 0.05, "high": 0.2, "by_base": [0.08, 0.12]}
    axes = figures.effects_figure([one, one | {"cell": "c", "value": -0.1, "low": -0.2, "high": 0.0}]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a  -  b", "c  -  b"]
    assert [bar.lines[0].get_xdata()[0] for bar in axes.containers] == pytest.approx([10, -10])
    ends = [[end.get_xdata()[0] for end in bar.lines[1]] for bar in axes.containers]
    assert ends == [pytest.approx([5, 20]), pytest.approx([-20, 0])]
    assert list(axes.lines[0].get_xdata()) == pytest.approx([8, 12])
