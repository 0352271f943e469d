"use strict";
// Shows what the selects name. A figure is drawn when it is first seen, and let go when it is hidden.
(() => {
  const KEYS = ["market", "latency", "model", "name"];
  const selects = KEYS.map((key) => document.getElementById(key));
  const index = document.getElementById("runs");
  const runs = JSON.parse(index.textContent);
  const parts = [...document.querySelectorAll("[data-market]")];
  const COMMON = {
    font: { family: "system-ui, sans-serif", size: 13, color: "#1d232b" },
    paper_bgcolor: "#fff",
    plot_bgcolor: "#fff",
    margin: { t: 56, r: 16, b: 48, l: 70 },
    legend: { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom" },
    hoverlabel: { bgcolor: "#fff" },
  };
  const AXIS = { gridcolor: "#e6e9ed", linecolor: "#9aa3ad", zerolinecolor: "#7c858f", ticks: "outside" };

  const chosen = () => Object.fromEntries(KEYS.map((key, at) => [key, selects[at].value]));
  const fits = (part, choice, keys = KEYS) =>
    keys.every((key) => !(key in part) || part[key] === choice[key]);

  // Each select offers what exists under the choices before it, and keeps its own choice where it can.
  function offer() {
    let left = runs;
    KEYS.forEach((key, at) => {
      const select = selects[at];
      const wanted = select.value;
      const found = new Map(left.map((run) => [run[key], run.labels[key]]));
      select.replaceChildren(...[...found].map(([value, label]) => new Option(label, value)));
      if (found.has(wanted)) select.value = wanted;
      left = left.filter((run) => run[key] === select.value);
    });
  }

  function draw(part) {
    const plot = part.querySelector(".plot");
    if (!plot || plot.childElementCount) return;
    const figure = JSON.parse(part.querySelector("script").textContent);
    const layout = { ...COMMON, ...figure.layout };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) layout[key] = { ...AXIS, ...layout[key] };
    }
    for (const trace of figure.data) if (trace.x === "@time") trace.x = { ...figure.time };
    Plotly.newPlot(plot, figure.data, layout, { responsive: true, displaylogo: false });
  }

  function show() {
    offer();
    const choice = chosen();
    for (const part of parts) {
      const isRow = part.tagName === "TR";
      // Fill models and contestants stand side by side in the tables.
      const visible = fits(part.dataset, choice, isRow ? ["market", "latency"] : KEYS);
      part.hidden = !visible;
      if (isRow) part.classList.toggle("chosen", fits(part.dataset, choice));
      else if (visible) draw(part);
      else {
        const plot = part.querySelector(".plot");
        if (plot && plot.childElementCount) {
          Plotly.purge(plot);
          plot.replaceChildren();
        }
      }
    }
  }

  function choose(run) {
    KEYS.forEach((key, at) => {
      offer();
      selects[at].value = run[key];
    });
    show();
  }

  for (const select of selects) select.addEventListener("change", show);
  for (const row of document.querySelectorAll("tbody tr")) {
    row.addEventListener("click", () => choose(row.dataset));
  }
  if (runs.length) choose(runs[Number(index.dataset.opening)]);
})();
