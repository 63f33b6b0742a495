"use strict";
// The page's data are texts from runs: they are only ever put into the page as text (textContent), never as HTML.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const { runs, units, latents } = JSON.parse(document.getElementById("data").textContent);
  const shown = runs.map(() => true);
  const charts = []; // {element, draw, drawn}: what is drawn again when a choice changes
  const style = (name, at = document.documentElement) => getComputedStyle(at).getPropertyValue(name).trim();
  const colourOf = (run) => style("--run", document.querySelector(`.chip.run-${run % 8}`));
  // Plotly reads a little HTML in labels.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const MEMBERS = ["#3b73e8", "#dd8010", "#12a150", "#d6408f", "#8b5cf6", "#0e9fb5", "#7d9c10", "#e2483d"];
  const LIGHT = [[0, "#7ad151"], [0.5, "#21918c"], [1, "#440154"]], DARK = [[0, "#3b6ea5"], [0.5, "#35b779"], [1, "#fde725"]];
  const DASHES = ["solid", "dash", "dot", "dashdot"];

  // Dark and light ---------------------------------------------------------------------------------------------
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const setTheme = () => {
    document.documentElement.dataset.theme = chosen || (preferred.matches ? "dark" : "light");
    redraw();
  };
  document.getElementById("theme").addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    setTheme();
  });
  preferred.addEventListener("change", setTheme);

  const layout = (more) => {
    const line = style("--line"), faint = style("--faint");
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { size: 11, color: faint }, automargin: true };
    return {
      margin: { l: 46, r: 14, t: 10, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { color: style("--ink"), size: 12, family: "system-ui, sans-serif" }, hovermode: "closest",
      hoverlabel: { bgcolor: style("--card"), bordercolor: line, font: { color: style("--ink"), size: 12 } },
      ...more, xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
    };
  };
  const OPTIONS = { responsive: true, displaylogo: false, displayModeBar: false };
  const redraw = () => charts.forEach((chart) => { if (chart.drawn) chart.draw(); });
  // A chart is drawn when it comes into sight: a page of many runs opens at once all the same.
  const sight = new IntersectionObserver((entries) => entries.forEach((entry) => {
    const chart = charts.find((each) => each.element === entry.target);
    if (entry.isIntersecting && !chart.drawn) { chart.drawn = true; chart.draw(); }
  }), { rootMargin: "300px" });
  const add = (element, draw) => { charts.push({ element, draw, drawn: false }); sight.observe(element); };

  // Curves -----------------------------------------------------------------------------------------------------
  const view = { axis: "step", scale: "linear", smooth: 0.6 };
  const smoothed = (values, weight) => {
    let mean = null, mass = 0;
    return values.map((value) => {
      if (value === null) return null;
      mean = weight * (mean || 0) + (1 - weight) * value;
      mass = weight * mass + (1 - weight);
      return mean / mass;
    });
  };
  const families = () => {
    const found = new Map();
    for (const run of runs) for (const name of Object.keys(run.curves)) {
      const [stage, ...rest] = name.split("/");
      const staged = ["train", "val", "test"].includes(stage) && rest.length > 0;
      const title = staged ? rest.join("/") : name.split("/").slice(0, -1).join("/") || name;
      if (!found.has(title)) found.set(title, { title, staged, members: [] });
      if (!found.get(title).members.includes(name)) found.get(title).members.push(name);
    }
    const first = (runs.map((run) => run.monitor).find(Boolean) || "val/loss").replace(/^[^/]*\//, "");
    const rank = ({ title, members, staged }) =>
      (title === first ? 0 : title === "loss" ? 1 : members.some((name) => name.startsWith("val/")) ? 2 : staged ? 3 : 4);
    return [...found.values()].sort((a, b) => rank(a) - rank(b) || a.title.localeCompare(b.title));
  };
  const axisTitle = () => (view.axis === "seen" ? `${runs.map((run) => run.seen).find(Boolean)} seen` : `${view.axis}s`);
  const lines = (family, run, number) => family.members.flatMap((name, member) => {
    const curve = run.curves[name];
    const x = curve && curve[view.axis];
    if (!x) return [];
    const train = name.startsWith("train/");
    const colour = family.staged ? colourOf(number) : MEMBERS[member % MEMBERS.length];
    const noisy = train && curve.value.length > 12 && view.smooth > 0;
    const line = (y, more) => ({
      x, y, type: "scatter", mode: y.length < 2 ? "markers" : "lines", connectgaps: false, visible: shown[number], meta: number,
      name: plain(runs.length > 1 ? `${run.name}  ${name}` : name), hovertemplate: `%{y:.5~g} at %{x:,.5~g}<extra>%{fullData.name}</extra>`,
      line: { color: colour, width: 2, dash: family.staged ? (train ? "dot" : "solid") : DASHES[number % 4] }, marker: { color: colour, size: 7 }, ...more,
    });
    const few = curve.value.length <= 30 && !train ? { mode: "lines+markers", marker: { color: colour, size: 5 } } : {};
    return noisy
      ? [line(curve.value, { opacity: 0.22, hoverinfo: "skip", hovertemplate: undefined, line: { color: colour, width: 1 } }), line(smoothed(curve.value, view.smooth), {})]
      : [line(curve.value, few)];
  });
  const addCurves = (family, place) => {
    const card = make("div", "chart");
    card.append(make("h4", "", family.title.replace(/_/g, " ")));
    const key = card.appendChild(make("p", "key"));
    const entry = (text, colour, dash) => {
      const item = make("span");
      const mark = item.appendChild(make("i"));
      mark.style.borderTopColor = colour;
      mark.style.borderTopStyle = dash;
      item.append(text);
      key.append(item);
    };
    if (family.staged) for (const name of family.members) entry(name.split("/")[0], "currentColor", name.startsWith("train/") ? "dotted" : "solid");
    else if (family.members.length > 1) family.members.forEach((name, i) => entry(name.split("/").pop(), MEMBERS[i % 8], "solid"));
    const plot = card.appendChild(make("div", "plot"));
    plot.dataset.family = family.title;
    place.append(card);
    add(plot, () => Plotly.react(plot, runs.flatMap((run, number) => lines(family, run, number)),
      layout({ xaxis: { title: { text: axisTitle(), font: { size: 11, color: style("--faint") } }, rangemode: "tozero" }, yaxis: { type: view.scale } }), OPTIONS));
  };
  const press = (buttons, active) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === active)));
  const setUpCurves = () => {
    const found = families();
    document.getElementById("curves").hidden = !found.length;
    found.forEach((family, i) => addCurves(family, document.getElementById(i < 6 ? "charts" : "morecharts")));
    document.getElementById("more").hidden = found.length <= 6;
    const axes = [["step", "steps"], ["epoch", "epochs"]];
    const seen = runs.map((run) => run.seen).find(Boolean);
    if (seen) axes.push(["seen", seen]);
    const place = document.getElementById("axis");
    for (const [axis, title] of axes) {
      const button = place.appendChild(make("button", "", title));
      button.type = "button";
      button.dataset.axis = axis;
      button.setAttribute("aria-pressed", String(axis === view.axis));
      button.addEventListener("click", () => { view.axis = axis; press(all("[data-axis]"), button); redraw(); });
    }
    all("[data-scale]").forEach((button) => button.addEventListener("click", () => { view.scale = button.dataset.scale; press(all("[data-scale]"), button); redraw(); }));
    document.getElementById("smooth").addEventListener("input", (event) => { view.smooth = Number(event.target.value); redraw(); });
  };

  // Runs on and off --------------------------------------------------------------------------------------------
  all("[data-toggle]").forEach((chip) => chip.addEventListener("click", () => {
    const number = Number(chip.dataset.toggle);
    shown[number] = !shown[number];
    chip.setAttribute("aria-pressed", String(shown[number]));
    all(`[data-run="${number}"]`).forEach((card) => { card.hidden = !shown[number]; });
    redraw();
    all(".map").forEach((map) => { if (map.data && map.offsetParent) Plotly.Plots.resize(map); });
  }));

  // Moments of training ----------------------------------------------------------------------------------------
  all("[data-gallery]").forEach((gallery) => {
    const slider = gallery.querySelector(".stages input");
    const stages = all(".stage", gallery);
    if (slider) slider.addEventListener("input", () => {
      stages.forEach((stage, i) => { stage.hidden = i !== Number(slider.value); });
      gallery.querySelector("output").textContent = stages[Number(slider.value)].dataset.label;
    });
  });

  // Hidden units -----------------------------------------------------------------------------------------------
  const setUpUnits = (box) => {
    const found = units[box.dataset.units];
    const bytes = Uint8Array.from(atob(found.values), (letter) => letter.charCodeAt(0));
    const length = found.tokens.length;
    const text = box.querySelector(".reading"), slider = box.querySelector("input"), output = box.querySelector("output");
    const spans = found.tokens.map((token) => text.appendChild(make("span", "", token)));
    const show = (place) => {
      const values = Array.from({ length }, (_, i) => bytes[place * length + i] / 127 - 1);
      values.forEach((value, i) => {
        spans[i].style.background = `rgba(var(${value < 0 ? "--minus" : "--plus"}), ${(0.85 * Math.abs(value)).toFixed(3)})`;
        spans[i].title = `${(value * found.sizes[place]).toFixed(3)}`;
      });
      slider.value = place;
      output.textContent = `${found.units[place]}, largest size ${found.sizes[place]}`;
      all("[data-unit]", box).forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.unit) === found.units[place])));
      const means = new Map();
      found.tokens.forEach((token, i) => { const kept = means.get(token) || [0, 0]; means.set(token, [kept[0] + values[i], kept[1] + 1]); });
      const sorted = [...means].filter(([, [, count]]) => count >= 2).map(([token, [sum, count]]) => [token, sum / count]).sort((a, b) => b[1] - a[1]);
      const names = (some) => some.map(([token]) => JSON.stringify(token)).join(" ");
      box.querySelector(".extremes").textContent = sorted.length < 2 ? "" : `Highest on average after ${names(sorted.slice(0, 8))}; lowest after ${names(sorted.slice(-8).reverse())}.`;
    };
    slider.addEventListener("input", () => show(Number(slider.value)));
    all("[data-unit]", box).forEach((button) => button.addEventListener("click", () => show(found.units.indexOf(Number(button.dataset.unit)))));
    show(found.readings.length ? found.units.indexOf(found.readings[0].unit) : 0);
  };
  all("[data-units]").forEach(setUpUnits);

  // Latent maps ------------------------------------------------------------------------------------------------
  all("[data-latent]").forEach((map) => {
    const found = latents[map.dataset.latent];
    const caption = map.parentElement.querySelector(".caption");
    add(map, () => {
      const first = !map.data;
      const dark = document.documentElement.dataset.theme === "dark";
      Plotly.react(map, [{
        type: "scatter", mode: "markers", hoverinfo: "none", x: found.points.map((point) => point[0]), y: found.points.map((point) => point[1]),
        marker: { size: 8, opacity: 0.85, color: found.lengths, colorscale: dark ? DARK : LIGHT, line: { width: 0 }, colorbar: { title: { text: "tokens", font: { size: 11 } }, thickness: 8, outlinewidth: 0, len: 0.8 } },
      }], layout({ margin: { l: 36, r: 10, t: 10, b: 28 }, yaxis: { scaleanchor: "x" } }), OPTIONS);
      if (first) map.on("plotly_hover", (event) => { caption.textContent = found.texts[event.points[0].pointIndex]; });
    });
  });

  setUpCurves();
  setTheme();
})();
