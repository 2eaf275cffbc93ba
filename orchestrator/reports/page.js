// Links the figures of a report: one set of chosen trials, which every figure, the table and the `show` lines follow.
// Another page has its own rows in their place (`listed`: in the table, `address`, `about`), the names of its `table`, wholes
// with their `parts`, and false as `shows` where its rows are no trials that `orchestrator show` knows.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SHOWN_LINES = 20, ROWS_AT_ONCE = 100;
  const trials = rows(data.trials);
  const byNumber = new Map(trials.map((trial) => [trial.trial, trial]));
  let epochs = null; // made when the first figure asks for them
  const plots = []; // {name, spec, element, view, stale}
  let chosen = null; // null, or {number of a trial: true}
  let picked = null; // the same without what is chosen along with them, as an array
  let words = ""; // what the chosen ones are
  let clears = 0;

  function rows(table) {
    const names = Object.keys(table);
    const columns = names.map((name) => {
      const column = table[name];
      return Array.isArray(column) ? column : column.at.map((place) => (place === null ? null : column.texts[place]));
    });
    const count = columns.length ? columns[0].length : 0;
    const found = new Array(count);
    for (let row = 0; row < count; row++) {
      const one = {};
      for (let column = 0; column < names.length; column++) one[names[column]] = columns[column][row];
      found[row] = one;
    }
    return found;
  }

  const copies = (table) => table.map((row) => ({ ...row }));

  // Drawing ----------------------------------------------------------------------------------------------------------

  const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

  function theme() {
    const dark = isDark();
    const text = dark ? "#e8e8e8" : "#1c1c1c", soft = dark ? "#a8adb5" : "#5c5c5c", grid = dark ? "#30353d" : "#e6e6e6";
    const palette = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#8A8A8A"];
    const bright = ["#3d3a78", "#31688e", "#21918c", "#5ec962", "#fde725"]; // viridis, its darkest end left out
    const deep = ["#d8d35a", "#5ec962", "#21918c", "#31688e", "#440154"]; // on white the other way, without its lightest
    const ramp = dark ? bright : deep;
    const axis = {
      labelColor: soft, titleColor: text, tickColor: grid, domainColor: soft, gridColor: grid,
      labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 160, titleLimit: 320,
    };
    const font = "system-ui, sans-serif";
    return {
      background: null, font, axis, range: { category: palette, ramp, heatmap: ramp, ordinal: ramp },
      legend: { labelColor: soft, titleColor: text, titleFontWeight: "normal", labelLimit: 240 },
      title: { color: text, font, fontWeight: "normal", fontSize: 13, anchor: "start" },
      header: { labelColor: soft, titleColor: text, titleFontWeight: "normal" },
      style: { "guide-label": { font }, "guide-title": { font } },
      inks: { inkText: text, inkSoft: soft, inkGrid: grid, inkLine: dark ? "#7db8dc" : "#0072B2", inkBack: dark ? "#16181c" : "#ffffff" },
    };
  }

  // Vega-Lite says how wide a view is by "container"; Vega's own specs all have the width of their place.
  const isVega = (spec) => /\/vega\//.test(spec.$schema || "");
  const fills = (spec) => isVega(spec) || spec.width === "container";

  // Of the palette, what is too dark for a dark page.
  const LIGHTER = { "#0072B2": "#2f92d6", "#56B4E9": "#a5dafa", "#009E73": "#2fc49a", "#D55E00": "#f0803c" };

  function recoloured(spec) {
    let text = JSON.stringify(spec);
    if (isDark()) for (const [from, to] of Object.entries(LIGHTER)) text = text.replaceAll(from, to);
    return JSON.parse(text);
  }

  function filled(spec, inks) {
    const full = recoloured(spec);
    const own = (full.signals || []).filter((signal) => !(signal.name in inks));
    full.signals = [...Object.entries(inks).map(([name, value]) => ({ name, value })), ...own];
    for (const source of full.data || []) {
      if (source.values || source.source || source.url) continue;
      if (source.name === "trials") source.values = copies(trials);
      if (source.name === "epochs") source.values = copies((epochs = epochs || rows(data.epochs)));
    }
    return full;
  }

  // One after the other, with a pause in between, so that the first picture is there before the second is begun.
  let queue = Promise.resolve();
  const pause = () => new Promise((resolve) => setTimeout(resolve));

  function draw(plot) {
    const turn = (plot.turn = plot.turn + 1);
    queue = queue.then(() => drawNow(plot, turn)).then(pause);
    return queue;
  }

  const OF_LITE = { view: { stroke: null }, text: { color: { expr: "inkText" } }, rule: { color: { expr: "inkSoft" } } };

  async function drawNow(plot, turn) {
    const { inks, ...config } = theme();
    const place = element("div");
    try {
      const sized = fills(plot.spec) ? { autosize: { type: "fit-x", contains: "padding" }, width: plot.element.clientWidth } : {};
      const made = await vegaEmbed(place, { ...plot.spec, ...sized }, {
        config: isVega(plot.spec) ? config : { ...config, ...OF_LITE },
        mode: isVega(plot.spec) ? "vega" : "vega-lite",
        patch: (spec) => filled(spec, inks),
        actions: false, defaultStyle: false, renderer: "canvas", tooltip: tip, hover: true, logLevel: 1,
      });
      if (turn !== plot.turn) return void made.finalize();
      if (plot.made) plot.made.finalize();
      plot.made = made;
      plot.element.replaceChildren(place);
      plot.element.style.minHeight = "0"; // the place that was kept for it
      plot.names = new Set(made.vgSpec.signals.map((signal) => signal.name));
      watch(plot, made.view);
    } catch (error) {
      plot.element.classList.add("failed");
      plot.element.textContent = `This figure could not be drawn: ${error.message}`;
      console.error(error);
    }
  }

  function watch(plot, view) {
    plot.view = view;
    view.addEventListener("click", (event, item) => clicked(event, item));
    if (plot.names.has("picked")) view.addSignalListener("picked", (_, value) => later(() => brushed(plot, value)));
    plot.stale = true;
    refresh(plot);
    plot.element.dataset.drawn = "1";
    if (window.firstPicture === undefined) window.firstPicture = performance.now();
  }

  const waiting = [];
  function later(what) {
    if (!waiting.length) requestAnimationFrame(() => waiting.splice(0).forEach((one) => one()));
    waiting.push(what);
  }

  function refresh(plot) {
    if (!plot.view || !plot.stale) return;
    plot.stale = false;
    if (!plot.names.has("chosen")) return;
    if (plot.names.has("chosen_count")) plot.view.signal("chosen_count", chosen === null ? 0 : Object.keys(chosen).length);
    plot.view.signal("chosen", chosen).run();
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const plot = plots[Number(entry.target.dataset.plot)];
      plot.visible = entry.isIntersecting;
      if (!plot.visible) continue;
      if (!plot.turn) draw(plot);
      else refresh(plot);
    }
  }, { rootMargin: "200px" });

  // What nobody has scrolled to yet is drawn when there is time, for the printer and for a quick scroll.
  async function drawRest() {
    for (const plot of plots) {
      await queue;
      await new Promise((resolve) => (window.requestIdleCallback || setTimeout)(resolve));
      if (!plot.turn) await draw(plot);
    }
  }

  const sized = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const plot = plots[Number(entry.target.dataset.plot)];
      const width = Math.floor(entry.contentRect.width);
      if (!plot.view || !fills(plot.spec) || Math.abs(width - plot.view.width()) < 2 || width < 50) continue;
      later(() => plot.view && plot.view.width(width).run());
    }
  });

  // Choosing ---------------------------------------------------------------------------------------------------------

  // With a whole its parts are chosen, with a part the wholes that it is in.
  const along = new Map();
  for (const [whole, parts] of Object.entries(data.parts || {})) {
    for (const part of parts) {
      for (const [one, other] of [[Number(whole), part], [part, Number(whole)]]) along.set(one, [...(along.get(one) || []), other]);
    }
  }

  function choose(numbers, said, from) {
    picked = numbers;
    const all = numbers === null ? null : numbers.flatMap((number) => [number, ...(along.get(number) || [])]);
    chosen = all === null ? null : Object.fromEntries(all.map((number) => [number, true]));
    words = said;
    clears += 1;
    for (const plot of plots) {
      if (!plot.view) continue;
      plot.stale = true;
      if (plot !== from && plot.names.has("picked") && plot.view.signal("picked") !== null) {
        if (plot.names.has("cleared")) plot.view.signal("cleared", clears).run();
        else draw(plot);
      }
      if (plot.visible) refresh(plot);
    }
    for (const element of document.querySelectorAll("[data-trial]")) {
      element.classList.toggle("unchosen", chosen !== null && !chosen[element.dataset.trial]);
    }
    fillLine();
    fillTable();
  }

  function brushed(plot, numbers) {
    if (numbers === null) {
      if (plot.brushing) choose(null, "", plot);
      plot.brushing = false;
      return;
    }
    for (const other of plots) other.brushing = other === plot;
    const said = plot.names.has("picked_as") ? plot.view.signal("picked_as") : data.titles[plot.name];
    choose(Array.from(numbers), said, plot);
  }

  function clicked(event, item) {
    const number = item && item.datum && item.datum.trial;
    if (Number.isInteger(number) && byNumber.has(number)) chooseOne(number, event.ctrlKey || event.shiftKey || event.metaKey);
  }

  function chooseOne(number, more) {
    const now = more && picked !== null ? new Set(picked) : new Set();
    const only = picked !== null && picked.length === 1 && picked[0] === number;
    if (only || (more && now.has(number))) now.delete(number);
    else now.add(number);
    for (const plot of plots) plot.brushing = false;
    if (now.size) choose([...now], now.size === 1 ? byNumber.get([...now][0]).name : "picked one by one", null);
    else clear();
  }

  function clear() {
    for (const plot of plots) plot.brushing = false;
    choose(null, "", null);
  }

  // What is chosen, in words and as a table --------------------------------------------------------------------------

  const element = (name, text, parent) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return parent ? parent.appendChild(made) : made;
  };

  const isChosen = (trial) => chosen === null || chosen[trial.trial];
  const ranked = trials.filter((trial) => trial.listed !== false).sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity) || a.trial - b.trial);
  const word = (value) => (typeof value === "number" ? String(Number(value.toPrecision(5))) : value === null ? "" : String(value));
  const quoted = (text) => (/^[\w.\-/]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

  // A dotted name that may go on in the next line after each of its dots.
  const wrapping = (text) => text.split(/(?<=\.)/).flatMap((part) => [part, document.createElement("wbr")]).slice(0, -1);

  function fillLine() {
    const line = document.getElementById("filter");
    line.replaceChildren();
    const whole = data.whole || `${ranked.length.toLocaleString("en")} ${data.what || "trials"}`;
    if (chosen === null) {
      const how = data.how || "Drag along an axis of the parallel coordinates, or click a curve, a point or a row.";
      element("span", `All ${whole}. ${how}`, line);
      return;
    }
    const found = ranked.filter(isChosen);
    element("span", `${found.length.toLocaleString("en")} of ${whole}${words ? `: ${words}` : ""} `, line);
    element("button", "clear", line).addEventListener("click", clear);
    const lines = found.slice(0, SHOWN_LINES).map((trial) => `orchestrator show ${quoted(trial.address ?? `${data.sweep}/${trial.trial}`)}`);
    if (found.length > SHOWN_LINES) lines.push(`and ${(found.length - SHOWN_LINES).toLocaleString("en")} more`);
    if (lines.length && data.shows !== false) element("pre", lines.join("\n"), line);
  }

  const columns = data.table || [
    ["rank", "rank", "number"], ["trial", "trial", "number"], ["state", "state", "text"], ["value", data.label, "number"],
    ["best_epoch", "best epoch", "number"], ["epochs", "epochs", "number"], ["seconds", "time (s)", "number"],
    ...data.columns, ["reason", "why it ended", "text"],
  ];
  let sorting = null; // [column, 1 or -1]
  let most = ROWS_AT_ONCE;

  function sorted(found) {
    if (!sorting) return found;
    const [column, sign] = sorting;
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : a === b ? 0 : 1);
    const last = (trial) => trial[column] === null || trial[column] === undefined;
    return found.sort((a, b) => last(a) - last(b) || (last(a) ? 0 : sign * compare(a[column], b[column])));
  }

  function fillTable() {
    const body = document.querySelector("#table tbody");
    const found = sorted(ranked.filter(isChosen));
    body.replaceChildren(...found.slice(0, most).map((trial) => {
      const row = element("tr");
      row.tabIndex = 0;
      row.dataset.number = trial.trial;
      row.classList.toggle("picked", chosen !== null);
      for (const [name, , kind] of columns) {
        const cell = element("td", undefined, row), text = word(trial[name] ?? null);
        cell.className = kind;
        cell.append(...(kind === "name" ? wrapping(text) : [text]));
      }
      return row;
    }));
    const more = document.getElementById("more");
    more.hidden = found.length <= most;
    more.textContent = `${(found.length - most).toLocaleString("en")} more`;
  }

  function makeTable() {
    const table = document.getElementById("table");
    const head = element("tr", undefined, element("thead", undefined, table));
    for (const [name, label, kind] of columns) {
      const cell = element("th", undefined, head);
      cell.className = kind;
      element("button", label, cell).addEventListener("click", () => {
        sorting = [name, sorting && sorting[0] === name ? -sorting[1] : 1];
        for (const other of head.children) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", sorting[1] > 0 ? "ascending" : "descending");
        fillTable();
      });
    }
    const body = element("tbody", undefined, table);
    const of = (event) => event.target.closest("tr");
    const more = (event) => event.ctrlKey || event.shiftKey || event.metaKey;
    body.addEventListener("click", (event) => of(event) && chooseOne(Number(of(event).dataset.number), more(event)));
    body.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && of(event)) chooseOne(Number(of(event).dataset.number), more(event));
    });
    document.getElementById("more").addEventListener("click", () => { most *= 10; fillTable(); });
  }

  // Hovering ---------------------------------------------------------------------------------------------------------

  const box = element("div", "", document.body);
  box.id = "tip";
  box.hidden = true;

  function about(number) {
    const trial = byNumber.get(number);
    if (trial.about) return trial.about;
    const value = trial.value === null ? "no value" : `${data.label} ${word(trial.value)} at epoch ${trial.best_epoch}`;
    return [`trial ${trial.name}`, value, trial.reason ? `${trial.state}: ${trial.reason}` : trial.state].join("\n");
  }

  function told(value, item) {
    const number = item && item.datum && item.datum.trial;
    const own = value === true || value === "true" || (value && typeof value === "object");
    if (own && Number.isInteger(number) && byNumber.has(number)) return about(number);
    if (value && typeof value === "object") return Object.entries(value).map(([name, one]) => `${name}: ${one}`).join("\n");
    return String(value);
  }

  function tip(handler, event, item, value) {
    box.hidden = value === null || value === undefined || value === "";
    if (box.hidden) return;
    box.textContent = told(value, item);
    const left = event.clientX + 14, room = document.documentElement.clientWidth - box.offsetWidth - 8;
    box.style.left = `${Math.max(4, Math.min(left, room))}px`;
    box.style.top = `${event.clientY + 18 + box.offsetHeight > innerHeight ? event.clientY - box.offsetHeight - 10 : event.clientY + 18}px`;
  }

  // Beginning --------------------------------------------------------------------------------------------------------

  for (const [name, specs] of Object.entries(data.figures)) {
    const views = document.getElementById(name).querySelectorAll(".view");
    specs.forEach((spec, place) => {
      views[place].dataset.plot = plots.length;
      plots.push({ name, spec, element: views[place], view: null, turn: 0, stale: false, visible: false, brushing: false, names: new Set() });
    });
  }
  makeTable();
  fillLine();
  fillTable();
  for (const plot of plots) {
    seen.observe(plot.element);
    sized.observe(plot.element);
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") clear();
    if (event.key === "Enter" && event.target.dataset.trial) event.target.click();
  });
  document.addEventListener("click", (event) => {
    const found = event.target.closest("[data-trial]");
    if (found) chooseOne(Number(found.dataset.trial), event.ctrlKey || event.shiftKey || event.metaKey);
  });
  const again = () => plots.forEach((plot) => plot.view && draw(plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  // Drawing takes longer than a printer waits: what is drawn for a dark page keeps a dark ground on paper.
  addEventListener("beforeprint", () => document.body.classList.toggle("dark-figures", isDark()));
  addEventListener("afterprint", () => document.body.classList.remove("dark-figures"));
  addEventListener("load", () => setTimeout(drawRest, 1000));
  window.report = { get chosen() { return chosen; }, plots };
})();
