"""The page of a report, with places to fill in (`string.Template`)."""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #f4f6f8; margin: 0 }
main { max-width: 1080px; margin: 0 auto; padding: 0 20px 40px }
.banner { background: #7a2e12; color: #fff; text-align: center; padding: 8px 20px; font-weight: 600 }
section { background: #fff; border: 1px solid #dde3ea; border-radius: 8px; padding: 4px 20px 16px; margin-top: 18px }
h1 { font-size: 26px; margin: 24px 0 2px } h2 { font-size: 18px; margin: 12px 0 6px }
.person { color: #51606f; margin: 0 }
.warning { background: #fff4d6; border-left: 4px solid #d59a00; padding: 8px 12px; margin: 12px 0 0 }
.viewer { background: #000; border-radius: 6px; padding: 12px }
.frame { display: none; margin: 0 } .frame.shown { display: block }
.frame img { height: 340px; max-width: 49%; margin: 0 0.5% } .frame { text-align: center }
figcaption { color: #fff; font-weight: 600; margin-top: 6px }
.controls { display: flex; gap: 12px; align-items: center; margin-top: 10px } .controls input { flex: 1 }
button { font: inherit; padding: 3px 16px }
.figure { width: 100% }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; width: 100% }
th { text-align: left; border-bottom: 2px solid #c5cfda; padding: 4px 8px; white-space: nowrap }
td { border-bottom: 1px solid #e8edf2; padding: 4px 8px; vertical-align: top; white-space: nowrap }
.number { text-align: right } .group { color: #b25a00 } small { color: #6b7a89 }
.important td { background: #eef5fc; font-weight: 600 } .important small { font-weight: 400 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0 }
dt { font-weight: 600 } dd { margin: 0 }
</style>
</head>
<body>
<div class="banner">$research_use</div>
<main>
<h1>$title</h1>
<p class="person">$person</p>
$warnings
<section><h2>In short</h2>$summary<p class="warning">$training</p></section>
<section>
<h2>Through the years</h2>
<div class="viewer">$frames</div>
<div class="controls"><button id="play" type="button">Play</button>
<input id="year" type="range" min="0" max="$last" value="0" aria-label="Year"></div>
<p><small>Axial through the ventricles, coronal through the hippocampi; the person's right is on the left. This is the
scan itself, carried along the mean of the drawn velocity fields: the most typical course, not the only one.</small></p>
</section>
<section><h2>Change and volumes</h2>$figure
<p><small>Blue line: this person, with bands that hold the true course as often as they say if the model is right.
Orange: somebody who changes like the average of the group. Dotted: no change. If blue and orange agree, the scan told
little that the group does not.</small></p></section>
<section><h2>Volumes of all regions</h2>
<p>Change since the scan, $band; beside it, what the average rate of the group would give.</p>
<div class="scroll"><table><thead><tr><th rowspan="2">region</th><th rowspan="2">now, ml</th>$head</tr>
<tr>$subhead</tr></thead><tbody>$rows</tbody></table></div></section>
<section><h2>How it was made</h2><dl>$facts</dl></section>
<section><h2>Files beside this page</h2><dl>$files</dl></section>
</main>
<script>
const frames = document.querySelectorAll(".frame");
const slider = document.getElementById("year"), play = document.getElementById("play");
let timer = null;
function show() { frames.forEach((frame, i) => frame.classList.toggle("shown", i == slider.value)); }
function stop() { clearInterval(timer); timer = null; play.textContent = "Play"; }
slider.addEventListener("input", () => { stop(); show(); });
play.addEventListener("click", () => {
  if (timer) { stop(); return; }
  play.textContent = "Pause";
  timer = setInterval(() => { slider.value = (Number(slider.value) + 1) % frames.length; show(); }, 700);
});
show();
</script>
</body>
</html>
"""
