"""The page of quality_page.py, with $names where values go."""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quality of the prepared study $study</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; color: #1c2733; background: #f4f6f9 }
.banner { background: #7a1f1f; color: #fff; padding: 6px 24px }
main { max-width: 1180px; margin: 0 auto; padding: 12px 24px 48px }
section { background: #fff; border-radius: 6px; padding: 12px 20px; margin: 14px 0 }
h1 { margin: 12px 0 0 } h2 { margin: 4px 0 8px } h3 { margin: 6px 0 } small { color: #6b7a89; font-weight: 400 }
article { border-top: 1px solid #e2e8ef; padding: 8px 0 } article.look h3 { color: #b25a00 }
article img { width: 100%; background: #000; image-rendering: auto } article ul { margin: 2px 0; color: #b25a00 }
.columns { display: grid; grid-template-columns: repeat(5, 1fr); text-align: center; font-weight: 600 }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; width: 100% }
th { text-align: left; border-bottom: 2px solid #c5cfda; padding: 4px 8px }
td { border-bottom: 1px solid #e8edf2; padding: 3px 8px; vertical-align: top } .number { text-align: right }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0 } dt { font-weight: 600 }
dd { margin: 0 }
</style>
</head>
<body>
<div class="banner">Research use only. Not for diagnosis, treatment or advice.</div>
<main>
<h1>Quality of the prepared study $study</h1>
<p>$used people with $visits visits are prepared; $excluded_count people are excluded; $to_look_at visits should be
looked at. <small>Neuro4D $version, settings $settings</small></p>
<section><h2>Excluded people</h2>$excluded</section>
<section><h2>Visits left out</h2>$left_out</section>
<section>
<h2>Pictures, the worst first</h2>
<p>$shown visits of $visits; the others are in <code>pictures/</code>. Left and right as radiologists see them. In the
differences orange is brighter at the visit, blue darker, full color at 30 % of white matter; they should vanish from
before to after. In the change of volume from where the visits meet to the visit, blue is loss, red is growth, full color
at 10 %: expect smooth patches at ventricles and sulci, not a ring around the head nor speckles.</p>
<div class="columns"><span>visit</span><span>where all meet</span><span>difference before</span>
<span>difference after</span><span>change of volume</span></div>
$pictures
</section>
<section>
<h2>All visits</h2>
<p>Agreement is the mean local correlation with the mean of the person's other visits, inside the brain, as rigid bodies
(before) and once the motion is undone (after). The difference is a part of the brain's contrast. The change is that of
the brain without its fluid, by the line through all visits; the distance is from the median of the study, in robust
standard deviations (with five people or more).</p>
<div class="scroll"><table><thead><tr><th>person</th><th>visit</th><th>years</th>$head<th>brain, % a year</th>
<th>distance</th><th>look at</th></tr></thead><tbody>$rows</tbody></table></div>
</section>
</main>
</body>
</html>
"""
