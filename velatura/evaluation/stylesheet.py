"""The looks of a page: calm paper in light, ink in dark, readable on a phone.

Colours are named once as variables, for both schemes; `charts` uses the same names.
"""

STYLE = """
:root{color-scheme:light dark;--paper:#faf8f3;--card:#fffefb;--ink:#24211d;--soft:#6d675e;--line:#e5dfd3;
  --accent:#9a4a2b;--wash:#f4ebe0;--good:#3f7350;--mind:#a06a12;--bad:#ab3526; --c1:#9a4a2b;--c2:#3d6d8c;
  --c3:#77803a;--c4:#7d5a86}
@media (prefers-color-scheme:dark) {
  :root{--paper:#171614;--card:#1f1d1b;--ink:#ece6db;--soft:#a39b8e;--line:#37332e; --accent:#e0916b;
    --wash:#2a231d;--good:#86bd95;--mind:#dcae5c;--bad:#ee8876; --c1:#e0916b;--c2:#7fb3d3;--c3:#b6c074;
    --c4:#c09acb}
}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; -webkit-text-size-adjust:100%}
main{max-width:1120px;margin:0 auto;padding:40px 24px 72px}
h1,h2,.verdict strong{font-family:"Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua",Georgia,serif;
  font-weight:500; line-height:1.15;letter-spacing:-.01em;margin:0}
h1{font-size:clamp(1.7rem,4.5vw,2.5rem);overflow-wrap:anywhere}
h2{font-size:1.45rem;margin:0 0 6px}
h3{font-size:1rem;font-weight:600;margin:0 0 2px}
p{margin:0 0 10px}
section{margin-top:52px}
.over{color:var(--soft);font-size:.82rem;letter-spacing:.08em;text-transform:uppercase;margin:0 0 6px}
.soft,.lead{color:var(--soft)}
.lead{max-width:46em}
.verdict{margin-top:26px;background:var(--card);border:1px solid var(--line);
  border-left:4px solid var(--accent);border-radius:10px; padding:24px 28px}
.verdict.none{border-left-color:var(--bad)}
.verdict strong{display:block;font-size:clamp(1.6rem,5vw,2.2rem);margin-bottom:8px}
.verdict ul{margin:12px 0 0;padding:0;list-style:none}
.verdict li{padding-left:1.25em;text-indent:-1.25em;margin:4px 0}
.verdict li::before{content:"·";display:inline-block;width:1.25em;text-indent:0;text-align:center;
  color:var(--accent);font-weight:700}
.minds{margin-top:16px;padding-top:14px;border-top:1px solid var(--line);font-size:.94rem;color:var(--soft)}
.minds li::before{content:"!";color:var(--mind)}
.facts{display:grid;grid-template-columns:repeat(4,1fr);gap:14px;margin-top:18px}
.fact{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.fact b{display:block;font:500 1.75rem/1.2 "Iowan Old Style","Palatino Linotype",Palatino,Georgia,serif;
  font-variant-numeric:lining-nums}
.fact span{display:block;font-size:.86rem;color:var(--soft);line-height:1.4}
.fact .gauge{display:block;height:4px;border-radius:2px;background:var(--line);margin:7px 0 8px;overflow:hidden}
.fact .gauge i{display:block;height:100%;background:var(--accent)}
figure{margin:0;min-width:0}
figcaption{font-size:.84rem;color:var(--soft);line-height:1.35;margin-top:6px;overflow-wrap:anywhere}
img{display:block;width:100%;height:auto;border-radius:6px;background:var(--line)}
.missing{display:flex;align-items:center;justify-content:center;aspect-ratio:1;border:1px dashed var(--line);
  border-radius:6px; font-size:.78rem;color:var(--soft);text-align:center;padding:6px}
.hero{display:grid;grid-template-columns:repeat(3,1fr);gap:18px;margin-top:18px}
.strip{display:grid;grid-auto-flow:column;grid-auto-columns:minmax(120px,1fr);gap:10px;margin-top:14px;
  overflow-x:auto}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:24px;margin-top:14px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:6px}
.pair{align-content:start}
.pair>figcaption{grid-column:1/-1;margin:0}
.pair.flag img{outline:2px solid var(--bad);outline-offset:1px}
.flagged{color:var(--bad);font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:20px;
  margin-top:18px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 18px 12px;min-width:0}
.card p{font-size:.88rem;color:var(--soft);margin:0 0 8px}
.scroll{overflow-x:auto;margin-top:14px;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
.gates{width:100%}
.gates th,.gates td{padding:8px 10px;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap;
  vertical-align:top}
.gates thead th{font-size:.8rem;font-weight:600;color:var(--soft);vertical-align:bottom}
.gates tbody th{font-weight:500;position:sticky;left:0;background:var(--paper)}
.gates tr.chosen th,.gates tr.chosen td{background:var(--wash);font-weight:600}
.pass::before{content:"✓";color:var(--good)}
.warn::before{content:"!";color:var(--mind);font-weight:700}
.fail::before{content:"✕";color:var(--bad);font-weight:700}
.unknown::before{content:"–";color:var(--soft)}
.pass::before,.warn::before,.fail::before,.unknown::before{display:inline-block;width:1.2em}
.fail{color:var(--bad)}
.unknown{color:var(--soft)}
.samples td{padding:0 8px 4px 0;vertical-align:top}
.samples .prompt{padding:18px 0 8px;text-align:left;font-weight:500;font-size:.95rem}
.samples .prompt span{position:sticky;left:0;display:inline-block;max-width:min(86vw,60em);white-space:normal;
  overflow-wrap:anywhere}
.samples{width:100%}
.samples figure{min-width:92px;max-width:150px}
.samples figcaption{margin-top:4px;font-size:.78rem}
.samples .chosen img{outline:2px solid var(--accent);outline-offset:2px}
.samples .chosen figcaption{color:var(--accent);font-weight:600}
.samples .copied img{outline:2px solid var(--bad);outline-offset:2px}
.confusion td,.confusion th{padding:6px 9px;text-align:center;font-weight:400;font-size:.84rem;
  color:var(--soft)}
.confusion td{color:var(--ink);border:1px solid var(--line);min-width:2.6em}
.confusion tbody th{text-align:right}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:12px 28px;margin:14px 0 0}
dt{font-size:.82rem;color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
details{margin-top:14px}
summary{cursor:pointer;color:var(--accent)}
.steps{margin:14px 0 0;padding:0;list-style:none}
.steps li{margin:0 0 12px}
code{display:inline-block;max-width:100%;overflow-x:auto;background:var(--wash);border-radius:6px;
  padding:4px 10px; font:0.9rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}
.chart{display:block;width:100%;height:auto}
/* in units of the drawing, which is 400 wide */
.chart text{font:13px system-ui,sans-serif;fill:var(--soft)}
.chart .name{font-weight:600}
.chart .grid{stroke:var(--line)}
.chart .zero{stroke:var(--soft);stroke-dasharray:3 3}
.chart .chosen{stroke:var(--accent);stroke-width:1.5;stroke-dasharray:2 4}
.chart .line{fill:none;stroke:var(--k);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.chart .faint{opacity:.45;stroke-width:1.3}
.chart .area{fill:var(--k);opacity:.13;stroke:none}
.chart .mark{fill:var(--k)}
.chart .path{fill:none;stroke:var(--line);stroke-width:2}
.chart .bar{stroke:var(--soft);opacity:.45}
.chart .dot.in{fill:var(--c2)}
.chart .dot.out{fill:var(--card);stroke:var(--bad);stroke-width:1.5}
.chart .dot.chosen{fill:var(--accent);stroke:none}
.chart .label.chosen{fill:var(--accent);font-weight:700;stroke:none}
.c1{--k:var(--c1)}
.c2{--k:var(--c2)}
.c3{--k:var(--c3)}
.c4{--k:var(--c4)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:6px 0 0}
.key::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;background:var(--k);
  margin-right:6px;vertical-align:middle}
footer{margin-top:64px;padding-top:16px;border-top:1px solid var(--line);font-size:.84rem;color:var(--soft)}
@media (max-width:720px) {
  main{padding:26px 16px 56px}
  section{margin-top:42px}
  .verdict{padding:18px}
  .facts,.hero{grid-template-columns:1fr 1fr;gap:12px}
  .samples figure{width:104px;max-width:none}
  .strip{grid-auto-columns:minmax(76px,1fr);gap:8px}
  .pairs{grid-template-columns:1fr}
  .card{padding:14px 12px 8px}
}
@media print {
  body{background:#fff}
  .scroll,.strip{overflow:visible}
  section{break-inside:avoid-page}
}
"""
