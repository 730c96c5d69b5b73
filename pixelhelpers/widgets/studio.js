// The live pictures of pixelhelpers in the browser: the studio and two games. No build step, nothing from the network.

const ORANGE = "#E69F00";
const CSS = `
.px { --line: var(--jp-border-color1, #999); --face: var(--jp-layout-color1, Field); --ink: var(--jp-ui-font-color1, FieldText);
  color: var(--jp-ui-font-color1, inherit); font: 13px/1.4 var(--jp-ui-font-family, sans-serif); max-width: 70em; }
.px * { box-sizing: border-box; } .px [hidden] { display: none; }
.px .beside { flex: 1 1 280px; min-width: 0; }
.px .painted figure { flex: 1 1 90px; max-width: 142px; } .px .painted canvas { width: 100%; }
.px .row { display: flex; flex-wrap: wrap; gap: 8px 14px; align-items: flex-start; margin: 6px 0; }
.px .row.controls { align-items: center; }
.px output { min-width: 2em; }
.px label:not([hidden]), .px fieldset { display: inline-flex; align-items: center; gap: 5px; }
.px fieldset { border: 0; padding: 0; margin: 0; flex-wrap: wrap; }
.px legend { float: left; padding: 0; }
.px canvas { display: block; image-rendering: pixelated; background: #000; border: 1px solid var(--line); max-width: 100%; }
.px canvas.draws { touch-action: none; cursor: crosshair; }
.px :focus-visible { outline: 3px solid var(--jp-brand-color1, #0072B2); outline-offset: 2px; }
.px button, .px select, .px input[type=number] { font: inherit; color: var(--ink); background: var(--face);
  border: 1px solid var(--line); border-radius: 3px; padding: 3px 7px; min-height: 26px; }
.px button { cursor: pointer; }
.px button[aria-pressed=true] { background: #0072B2; border-color: #0072B2; color: #fff; }
.px input[type=number] { width: 5em; }
.px input[type=range] { width: 7em; accent-color: var(--jp-brand-color1, #0072B2); }
.px figure { margin: 0; }
.px figcaption { font-size: 12px; margin-top: 2px; }
.px .note { min-height: 1.4em; margin: 4px 0; max-width: 46em; }
.px .note:not(:empty) { border-left: 4px solid ${ORANGE}; padding-left: 8px; }
.px .chart { background: transparent; image-rendering: auto; }
.px table { border-collapse: collapse; } .px th, .px td { padding: 1px 10px 1px 0; text-align: left; }
.px .cards { display: grid; grid-template-columns: repeat(5, minmax(0, 96px)); gap: 8px; padding: 4px; }
.px .cards button { padding: 3px; } .px .cards canvas { width: 100%; } .px .cards button.right { outline: 3px solid #009E73; } .px .cards button.wrong { outline: 3px dashed #D55E00; }
.px .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
`;

// -- small helpers ---------------------------------------------------------------------------------

function h(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const bytes = (buffer) => new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength);
const floats = (buffer) => new Float32Array(bytes(buffer).slice().buffer);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const parts = (array, size) => Array.from({ length: array.length / size }, (_, k) => array.slice(k * size, (k + 1) * size));
const options = (names) => names.map((name, k) => h("option", { value: k }, name));
const round = (number, digits = 2) => (number == null ? "infinitely many" : number.toFixed(digits));

// An image of the model, enlarged on a canvas, with marks on it.
class Board {
  constructor(facts, label, width, attributes = {}) {
    Object.assign(this, { facts, scale: Math.max(3, Math.round(width / facts.width)), marks: {} });
    const size = { width: facts.width * this.scale, height: facts.height * this.scale };
    this.canvas = h("canvas", { role: "img", "aria-label": label, ...size, ...attributes });
    this.small = new OffscreenCanvas(facts.width, facts.height);
    this.image = new Uint8Array(facts.channels * facts.height * facts.width);
  }

  show(image, marks) {
    if (image) this.image = image;
    if (marks) this.marks = { ...this.marks, ...marks };
    const { facts, scale, marks: { faint, missing, seen, at, cursor, line } } = this;
    const { width, height, channels, levels } = facts, area = width * height;
    const picture = new ImageData(width, height);
    for (let p = 0; p < area; p++) {
      for (let c = 0; c < 3; c++) {
        let value = (this.image[(channels === 3 ? c : 0) * area + p] * 255) / (levels - 1);
        if (faint && faint[p]) value = 0.3 * value + 25;
        if (seen && seen[p]) value = 0.55 * value + 0.45 * [86, 180, 233][c];
        if (missing && missing[p]) value = [60, 50, 70][c];
        picture.data[4 * p + c] = value;
      }
      picture.data[4 * p + 3] = 255;
    }
    this.small.getContext("2d").putImageData(picture, 0, 0);
    const pen = this.canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.small, 0, 0, this.canvas.width, this.canvas.height);
    pen.lineWidth = 2;
    if (line != null) {
      pen.strokeStyle = ORANGE;
      pen.setLineDash([6, 4]);
      pen.strokeRect(-4, -4, this.canvas.width + 8, line * scale + 4);
      pen.setLineDash([]);
    }
    const frame = (pixel, colour) => {
      pen.strokeStyle = colour;
      pen.strokeRect(pixel[1] * scale - 1, pixel[0] * scale - 1, scale + 2, scale + 2);
    };
    if (at) frame(at, ORANGE);
    if (cursor) {
      frame(cursor, "#fff");
      pen.lineWidth = 1;
      frame([cursor[0], cursor[1]], "#0072B2");
    }
  }

  pixel(event) {
    const box = this.canvas.getBoundingClientRect(), { width, height } = this.facts;
    const column = Math.floor(((event.clientX - box.left) / box.width) * width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    return [clamp(row, 0, height - 1), clamp(column, 0, width - 1)];
  }
}

// Arrow keys move a pixel within the image; anything else is none of theirs.
function moved(pixel, key, facts) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
  return step && [clamp(pixel[0] + step[0], 0, facts.height - 1), clamp(pixel[1] + step[1], 0, facts.width - 1)];
}

// The probabilities of a pixel's levels as bars, and in orange the level that is there.
function chart(canvas, pmf, there, channels, colours = channels === 3 ? ["#D55E00", "#009E73", "#0072B2"] : ["#3b8fc4"]) {
  const pen = canvas.getContext("2d"), { width, height } = canvas, levels = pmf.length / channels;
  const most = Math.max(...pmf), wide = (width - 12) / levels, x = (v) => 6 + v * wide; // so that level 0 stands free
  pen.clearRect(0, 0, width, height);
  for (let c = 0; c < channels; c++) {
    pen.globalAlpha = 0.35;
    pen.fillStyle = ORANGE;
    if (there[c] != null) pen.fillRect(x(there[c]) - 2, 0, Math.max(5, wide), height);
    pen.globalAlpha = channels > 1 ? 0.7 : 1;
    pen.fillStyle = colours[c];
    for (let v = 0; v < levels; v++) {
      const tall = (pmf[c * levels + v] / most) * (height - 4);
      pen.fillRect(x(v), height - tall, Math.max(1, wide - 0.3), tall);
    }
    pen.globalAlpha = 1;
  }
}

// What the picture says to the kernel, and what comes back; a kernel that keeps silent is spoken of.
function kernel(model, note, answers) {
  let waiting = 0;
  const hear = (message, buffers) => {
    clearTimeout(waiting);
    answers[message.say]?.(message, buffers ?? []);
  };
  model.on("msg:custom", hear);
  const quiet = () => {
    note.textContent = "The kernel does not answer. Your drawing stays here; when the kernel is back, run the cell again, and press “bring back”.";
  };
  return {
    say(message, ...arrays) {
      clearTimeout(waiting);
      if (message.do !== "stop") waiting = setTimeout(quiet, 6000);
      try {
        model.send(message, undefined, arrays.map((array) => array.slice().buffer));
      } catch {
        quiet();
      }
    },
    end() {
      clearTimeout(waiting);
      model.off("msg:custom", hear);
    },
  };
}

// JupyterLab and Notebook 7 would take arrow keys and letters for commands of their own. They look for this attribute,
// Notebook 7 at the part alone that has the focus.
const keepKeys = (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true");

function page(el, ...children) {
  const root = h("div", { class: "px" }, h("style", {}, CSS), ...children);
  root.addEventListener("focusin", keepKeys);
  root.addEventListener("keydown", (event) => event.stopPropagation());
  el.append(root);
  return root;
}

// -- the studio ------------------------------------------------------------------------------------

function studio({ model, el }) {
  const facts = model.get("facts"), { width, height, channels, levels } = facts, area = width * height;
  const memory = `pixelhelpers-studio-${channels}-${height}-${width}-${levels}`;
  const state = { image: Uint8Array.from(facts.picture), drawn: new Uint8Array(area), cursor: [0, 0], past: [], turn: 0, asked: null,
    label: facts.label, number: facts.number };
  const note = h("p", { class: "note", role: "status", "aria-live": "polite" }, "Draw above the dashed line. What stands there is kept.");
  const where = h("span", { class: "unseen", "aria-live": "polite" });

  // Tools.
  let tool = "draw";
  const tools = ["draw", "erase", "keep down to here", "ask"].map((name) =>
    h("button", { "aria-pressed": String(name === tool), onclick: () => choose(name) }, name));
  const choose = (name) => {
    tool = name;
    tools.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
    if (name !== "ask") forget();
  };
  const level = channels === 3
    ? h("input", { type: "color", value: "#e0e0e0" })
    : h("input", { type: "range", min: 0, max: levels - 1, value: Math.round((levels - 1) * 0.85) });
  const size = h("input", { type: "range", min: 1, max: 5, value: 2 });
  const number = h("input", { type: "number", min: 0, max: facts.pictures - 1, value: facts.number });
  const rows = h("input", { type: "range", min: 0, max: height, value: facts.rows });
  const keep = h("select", {}, ...options(["rows above the line", "rows below the line", "what I drew"]));

  // What the painting depends on.
  const which = h("select", {}, ...options(facts.models));
  const label = h("select", {}, ...options(facts.classes));
  const labelled = h("label", {}, "class", label);
  const temperature = h("input", { type: "range", min: 0.1, max: 2, step: 0.05, value: 1 });
  const degrees = h("output", {}, "1.00");
  const likely = h("input", { type: "range", min: 0.05, max: 1, step: 0.05, value: 1 });
  const share = h("output", {}, "1.00");
  const greedy = h("input", { type: "checkbox" });
  const seed = h("input", { type: "number", min: 0, value: 0 });
  const count = h("input", { type: "number", min: 1, max: 12, value: 3 });
  label.value = facts.label;
  labelled.hidden = !facts.classes.length;

  // Boards: the canvas, and what the model made of it.
  const help = h("span", { class: "unseen", id: `help-${Math.random().toString(36).slice(2)}` },
    "Arrow keys move the cursor. Space uses the chosen tool, E erases, K keeps the rows down to here, Enter asks the pixel, Control Z takes the last stroke back.");
  const board = new Board(facts, "your drawing", 336, { class: "draws", role: "application", tabindex: 0, "aria-describedby": help.id });
  const painted = h("div", { class: "row painted" });
  let boards = [];

  const known = () => {
    if (keep.value === "2") return state.drawn.slice();
    return Uint8Array.from({ length: area }, (_, p) => (Math.floor(p / width) < rows.value) === (keep.value === "0"));
  };
  const redraw = () => {
    board.show(state.image, {
      faint: known().map((one) => 1 - one), cursor: document.activeElement === board.canvas && state.cursor,
      line: keep.value === "2" ? null : +rows.value, at: null, seen: null,
    });
    if (state.asked?.board === board) board.show(null, { at: state.asked.at, seen: state.asked.seen });
  };
  const arrange = (images) => {
    while (boards.length > images.length) boards.pop().figure.remove();
    while (boards.length < images.length) {
      const k = boards.length, one = new Board(facts, `completion ${k + 1}`, 140, { tabindex: 0, role: "application" });
      one.cursor = [0, 0];
      one.canvas.addEventListener("pointerdown", (event) => ask(one, one.pixel(event)));
      one.canvas.addEventListener("keydown", (event) => {
        const to = moved(one.cursor, event.key, facts);
        if (!to && event.key !== "Enter") return;
        event.preventDefault();
        ask(one, to ?? one.cursor);
      });
      const take = h("button", { "aria-label": `take completion ${k + 1} as the drawing`, onclick: () => {
        remember();
        const kept = known();
        state.image = one.image.slice();
        state.drawn = state.drawn.map((yes, p) => yes && kept[p]);
        complete();
      }, title: "makes this completion your drawing" }, "take");
      one.figure = h("figure", {}, one.canvas, h("figcaption", {}, `completion ${k + 1} `, take));
      boards.push(one);
      painted.append(one.figure);
    }
    images.forEach((image, k) => boards[k].show(image));
  };

  // Strokes.
  const remember = () => {
    state.past.push([state.image.slice(), state.drawn.slice(), rows.value, state.label, state.number]);
    if (state.past.length > 60) state.past.shift();
  };
  const ink = () => {
    if (channels === 1) return [+level.value];
    return [1, 3, 5].map((k) => Math.round((parseInt(level.value.slice(k, k + 2), 16) * (levels - 1)) / 255));
  };
  const dab = ([row, column], colour) => {
    const side = +size.value, from = Math.floor((side - 1) / 2);
    for (let r = row - from; r < row - from + side; r++) for (let c = column - from; c < column - from + side; c++) {
      if (r < 0 || c < 0 || r >= height || c >= width) continue;
      colour.forEach((value, k) => { state.image[k * area + r * width + c] = value; });
      state.drawn[r * width + c] = 1;
    }
  };
  const along = (from, to, colour) => {
    const steps = Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]), 1);
    for (let k = 0; k <= steps; k++) dab([0, 1].map((i) => Math.round(from[i] + ((to[i] - from[i]) * k) / steps)), colour);
  };
  const black = Array(channels).fill(0);
  let last = null;
  const begin = (event) => {
    if (event.button) return;
    event.preventDefault();
    board.canvas.focus();
    const pixel = (state.cursor = board.pixel(event));
    if (tool === "ask") return ask(board, pixel);
    if (tool === "keep down to here") return line(pixel[0] + 1);
    try {
      board.canvas.setPointerCapture(event.pointerId);
    } catch {
      // a pointer that is gone already
    }
    remember();
    stop();
    last = pixel;
    go(event);
  };
  const go = (event) => {
    if (!last) return;
    const pixel = board.pixel(event);
    along(last, pixel, tool === "erase" ? black : ink());
    last = state.cursor = pixel;
    redraw();
  };
  const end = () => {
    if (!last) return;
    last = null;
    complete();
  };
  for (const [name, act] of Object.entries({ pointerdown: begin, pointermove: go, pointerup: end, pointercancel: end })) {
    board.canvas.addEventListener(name, act);
  }
  board.canvas.addEventListener("focus", redraw);
  board.canvas.addEventListener("blur", redraw);
  board.canvas.addEventListener("keydown", (event) => {
    const to = moved(state.cursor, event.key, facts), key = event.key.toLowerCase();
    if (to) {
      state.cursor = to;
      const value = Array.from({ length: channels }, (_, c) => state.image[c * area + to[0] * width + to[1]]);
      where.textContent = `row ${to[0]}, column ${to[1]}, level ${value.join(" ")}`;
      redraw();
    } else if (key === " " && tool === "ask") ask(board, state.cursor);
    else if (key === " " && tool === "keep down to here") line(state.cursor[0] + 1);
    else if (key === " " || key === "e") {
      remember();
      dab(state.cursor, key === "e" || tool === "erase" ? black : ink());
      complete();
    } else if (key === "k") line(state.cursor[0] + 1);
    else if (key === "enter") ask(board, state.cursor);
    else if (key === "z" && (event.ctrlKey || event.metaKey)) undo();
    else return;
    event.preventDefault();
  });
  const line = (row) => {
    remember();
    rows.value = row;
    complete();
  };
  const undo = () => {
    if (!state.past.length) return;
    [state.image, state.drawn, rows.value, state.label, state.number] = state.past.pop();
    label.value = state.label;
    number.value = state.number;
    complete();
  };
  const clear = () => {
    remember();
    state.image.fill(0);
    state.drawn.fill(0);
    complete();
  };

  // Conversation with the kernel.
  const talk = kernel(model, note, {
    begun({ turn, remark, classes }) {
      if (turn !== state.turn) return;
      const nothing = keep.value === "2" && !state.drawn.some(Boolean);
      note.textContent = nothing ? "Nothing here counts as drawn by you yet: draw something." : remark;
      if (classes.length !== label.options.length) label.replaceChildren(...options(classes));
      label.value = classes[state.label] === undefined ? 0 : state.label;
      labelled.hidden = !classes.length;
    },
    rows({ turn }, [images, done]) {
      if (turn !== state.turn) return;
      const missing = parts(bytes(done), area).map((one) => one.map((yes) => 1 - yes));
      arrange(parts(bytes(images), channels * area));
      boards.forEach((one, k) => one.show(null, { missing: missing[k] }));
      root.dataset.painting = "rows";
    },
    done({ turn }, buffers) {
      if (turn !== state.turn) return;
      this.rows({ turn }, buffers);
      root.dataset.painting = "done";
      if (state.asked) ask(boards.includes(state.asked.board) ? state.asked.board : board, state.asked.at);
    },
    asked(answer, [pmf]) {
      if (answer.turn !== state.asked?.turn) return;
      Object.assign(state.asked, answer);
      const level = answer.levels.join(" "), bits = answer.bits.map((b) => round(b)).join(" + ");
      chart(hill, floats(pmf), answer.levels, channels);
      tallest.textContent = `the tallest bar is ${round(100 * Math.max(...floats(pmf)), 1)} %`;
      hill.setAttribute("aria-label", `the probabilities of all levels; level ${level} costs ${bits} bits`);
      const whose = state.asked.board === board ? "Your drawing" : `Completion ${boards.indexOf(state.asked.board) + 1}`;
      const unit = channels === 1 ? "pixel" : "value";
      said.textContent = `${whose}. Row ${answer.at[0]}, column ${answer.at[1]}, number ${answer.place} in the drawing order: level ${level}, which costs ${bits} bits. The whole of it: ${round(answer.mean)} bits per ${unit}. A blind guess pays ${round(Math.log2(levels))}.`;
      panel.hidden = false;
    },
    seen({ turn }, [field]) {
      if (turn !== state.asked?.turn) return;
      state.asked.seen = bytes(field);
      state.asked.board.show(null, { seen: state.asked.seen });
      sight.textContent = `In blue what it could see: ${state.asked.seen.reduce((a, b) => a + b, 0)} pixels.`;
    },
    picture({ label: shown, number: loaded }, [image]) {
      remember();
      state.image = bytes(image).slice();
      state.drawn.fill(0);
      label.value = state.label = shown;
      state.number = loaded;
      choose("draw");
      complete();
    },
    trouble({ turn, text }) {
      if (turn == null || turn === state.turn || turn === state.asked?.turn) note.textContent = text;
    },
  });
  const asking = () => ({ model: facts.models[which.value], label: state.label });
  const complete = () => {
    state.turn = Math.random();
    try {
      sessionStorage.setItem(memory, JSON.stringify([[...state.image], [...state.drawn]]));
    } catch {
      // a browser that keeps nothing
    }
    degrees.textContent = (+temperature.value).toFixed(2);
    share.textContent = (+likely.value).toFixed(2);
    for (const idle of [temperature, likely, seed]) idle.disabled = greedy.checked; // nothing is left to chance
    root.dataset.painting = "asked";
    redraw();
    talk.say({
      do: "complete", turn: state.turn, ...asking(), count: clamp(+count.value || 3, 1, 12), temperature: +temperature.value,
      top_p: +likely.value, greedy: greedy.checked, seed: Math.floor(+seed.value) || 0,
    }, state.image, known(), state.drawn);
  };
  const stop = () => {
    state.turn = 0;
    talk.say({ do: "stop" });
  };
  const ask = (one, at) => {
    const before = state.asked?.board;
    one.cursor = at;
    state.asked = { board: one, at, turn: Math.random() };
    if (before && before !== one) before.show(null, { at: null, seen: null });
    one.show(null, { at, seen: null });
    sight.textContent = "";
    talk.say({ do: "ask", turn: state.asked.turn, at, ...asking() }, one.image);
  };
  const forget = () => {
    state.asked?.board.show(null, { at: null, seen: null });
    state.asked = null;
    panel.hidden = true;
  };
  label.addEventListener("input", () => { state.label = +label.value; });
  for (const slider of [temperature, likely]) {
    slider.addEventListener("dblclick", () => {
      slider.value = 1;
      complete();
    });
  }
  for (const control of [rows, keep, which, label, temperature, likely, greedy, seed, count]) {
    control.addEventListener(control.type === "number" ? "change" : "input", complete);
  }
  const again = () => {
    seed.value = +seed.value + 1;
    complete();
  };

  // The pixel that was asked.
  const hill = h("canvas", { class: "chart", role: "img", width: 380, height: 110 });
  const said = h("p", { class: "said", role: "status", "aria-live": "polite" });
  const sight = h("span", {});
  const walk = (way) => h("button", { onclick: () => state.asked?.[way] && ask(state.asked.board, state.asked[way]) },
    { before: "◀ the one before", after: "the next one ▶", dearest: "the dearest one" }[way]);
  const tallest = h("span", {});
  const panel = h("figure", { hidden: true }, hill,
    h("figcaption", {}, `level 0 on the left, ${levels - 1} on the right; `, tallest, "; orange: the one that is there"),
    said, h("div", { class: "row controls" }, walk("before"), walk("after"), walk("dearest"), sight));

  const load = () => talk.say({ do: "picture", number: Math.floor(+number.value) || 0 });
  number.addEventListener("change", load);
  const following = () => {
    number.value = (state.number + 1) % facts.pictures;
    load();
  };
  const pictures = facts.pictures
    ? [h("label", {}, `picture (0 to ${facts.pictures - 1})`, number), h("button", { onclick: following }, "next picture")]
    : [];
  const back = h("button", { onclick: () => {
    const kept = JSON.parse(sessionStorage.getItem(memory) ?? "null");
    if (!kept) return;
    remember();
    [state.image, state.drawn] = kept.map((one) => Uint8Array.from(one));
    complete();
  } }, "bring back my last drawing");
  let older = null; // a drawing of this page before this canvas was there
  try {
    older = sessionStorage.getItem(memory);
  } catch {
    // as above
  }
  back.hidden = !older;
  const root = page(el,
    h("div", { class: "row controls" },
      h("fieldset", {}, h("legend", { class: "unseen" }, "tool"), ...tools),
      h("label", {}, channels === 3 ? "colour" : "brightness", level), h("label", {}, "size", size),
      h("button", { onclick: undo }, "undo"), h("button", { onclick: clear }, "clear"), ...pictures, back),
    h("div", { class: "row controls" },
      h("label", {}, "keep", keep), h("label", {}, "line at row", rows)),
    note,
    h("div", { class: "row" }, board.canvas, h("div", { class: "beside" }, painted, panel)),
    where, help,
    h("div", { class: "row controls" },
      h("label", {}, "model", which), labelled,
      h("label", { title: "below 1 the likely levels become likelier still, above 1 all become more alike; a double click sets it to 1" },
        "temperature", temperature), degrees,
      h("label", { title: "only the likeliest levels, which together have this probability, are drawn; a double click sets it to 1" },
        "top-p", likely), share,
      h("label", { title: "always the likeliest level: nothing is left to chance" }, greedy, "greedy"),
      h("label", { title: "the random numbers: the same seed paints the same pictures" }, "seed", seed), h("label", {}, "how many", count),
      h("button", { onclick: again, title: "with the next seed" }, "again"), h("button", { onclick: stop, title: "stops the painting" }, "stop")));
  arrange(facts.painted.map((image) => Uint8Array.from(image)));
  redraw();
  return () => talk.end();
}

// -- two games -------------------------------------------------------------------------------------

// Ten real and ten painted images, a minute, and a table of who was deceived by what.
function who({ model, el }) {
  const facts = model.get("facts"), area = facts.channels * facts.height * facts.width;
  const note = h("p", { class: "note", role: "status", "aria-live": "polite" });
  const which = h("select", {}, ...options(facts.models));
  const temperature = h("input", { type: "number", min: 0.1, max: 2, step: 0.1, value: 1 });
  const cards = h("div", { class: "cards" });
  const clock = h("output", { "aria-label": "seconds left" }, "60");
  const rows = h("tbody"), table = h("table", { hidden: true }, h("thead", {}, h("tr", {},
    ...["model", "temperature", "right", "seconds"].map((name) => h("th", { scope: "col" }, name)))), rows);
  let turn = 0, painted = [], start = 0, ticking = 0;
  const deal = () => {
    turn = Math.random();
    clearInterval(ticking);
    finish.disabled = true;
    cards.replaceChildren();
    note.textContent = "The model is painting …";
    talk.say({ do: "deal", turn, model: facts.models[which.value], temperature: +temperature.value, seed: Math.floor(Math.random() * 1e9) });
  };
  const end = () => {
    clearInterval(ticking);
    finish.disabled = true;
    const buttons = [...cards.children];
    const right = buttons.filter((button, k) => {
      const good = (button.getAttribute("aria-pressed") === "true") === painted[k];
      button.className = good ? "right" : "wrong";
      button.setAttribute("aria-label", `image ${k + 1}: ${painted[k] ? "painted" : "real"}, ${good ? "right" : "wrong"}`);
      button.append(h("div", {}, painted[k] ? "painted" : "real"));
      button.disabled = true;
      return good;
    }).length;
    note.textContent = `${right} of ${buttons.length} right. Whoever guesses blindly gets ten, on average.`;
    rows.append(h("tr", {}, ...[facts.models[which.value], temperature.value, `${right} of ${buttons.length}`,
      ((Date.now() - start) / 1000).toFixed(0)].map((cell) => h("td", {}, cell))));
    table.hidden = false;
  };
  const finish = h("button", { onclick: end, disabled: true }, "done");
  const talk = kernel(model, note, {
    dealt(message, [images]) {
      if (message.turn !== turn) return;
      painted = message.painted;
      cards.replaceChildren(...parts(bytes(images), area).map((image, k) => {
        const board = new Board(facts, "", 84, { "aria-hidden": "true" });
        board.show(image);
        const card = h("button", { "aria-pressed": "false", "aria-label": `image ${k + 1} was painted`, onclick: () => {
          card.setAttribute("aria-pressed", String(card.getAttribute("aria-pressed") !== "true"));
        } }, board.canvas);
        return card;
      }));
      note.textContent = "Ten of these the model painted: mark them.";
      finish.disabled = false;
      start = Date.now();
      ticking = setInterval(() => {
        const left = 60 - Math.floor((Date.now() - start) / 1000);
        clock.textContent = Math.max(left, 0);
        if (left <= 0) end();
      }, 250);
    },
    trouble({ text }) {
      note.textContent = text;
    },
  });
  page(el, h("div", { class: "row controls" }, h("label", {}, "model", which), h("label", {}, "temperature", temperature),
    h("button", { onclick: deal }, "deal"), finish, h("span", {}, clock, " seconds")), note, cards, table);
  return () => {
    clearInterval(ticking);
    talk.end();
  };
}

// Ten pixels of a real image: a level and how sure one is, against the model's probabilities.
function guess({ model, el }) {
  const facts = model.get("facts"), { levels } = facts;
  const note = h("p", { class: "note", role: "status", "aria-live": "polite" });
  const which = h("select", {}, ...options(facts.models));
  const board = new Board(facts, "the image as far as it is painted; in orange the pixel to guess", 280);
  const level = h("input", { type: "range", min: 0, max: levels - 1, value: levels >> 1 });
  const value = h("output", {}, levels >> 1);
  const sure = h("input", { type: "range", min: 0, max: 1, step: 0.02, value: 0.3 });
  const hill = h("canvas", { class: "chart", role: "img", width: 380, height: 110, "aria-label": "your probabilities of all levels, in blue; the model's, in green" });
  let turn = 0, game = null;

  // A logistic around the level, the narrower the surer, and a hundredth for all levels alike: nothing is impossible.
  const mine = () => {
    const scale = (levels / 4) * Math.pow(levels, -sure.value), cdf = (x) => 1 / (1 + Math.exp(-x / scale));
    return Float32Array.from({ length: levels }, (_, v) => {
      const above = v === levels - 1 ? 1 : cdf(v + 0.5 - level.value), below = v === 0 ? 0 : cdf(v - 0.5 - level.value);
      return 0.99 * (above - below) + 0.01 / levels;
    });
  };
  const move = () => {
    value.textContent = level.value;
    if (!game || !game.answered) chart(hill, mine(), [null], 1);
  };
  const ask = () => {
    const at = game.pixels[game.k], now = game.rank[at[0] * facts.width + at[1]];
    game.answered = false;
    board.show(game.image, { at, missing: game.rank.map((one) => +(one >= now)) });
    go.textContent = "guess";
    note.textContent = `Pixel ${game.k + 1} of ${game.pixels.length}: row ${at[0]}, column ${at[1]}. Which level, and how sure are you?`;
    move();
  };
  const press = () => {
    if (!game) return;
    if (game.answered) {
      game.k += 1;
      return game.k < game.pixels.length ? ask() : end();
    }
    const at = game.pixels[game.k], there = game.image[at[0] * facts.width + at[1]];
    const yours = mine(), its = game.pmf[game.k];
    game.bits.push([-Math.log2(yours[there]), -Math.log2(its[there])]);
    game.answered = true;
    chart(hill, Float32Array.from([...yours, ...its]), [there, null], 2, ["#3b8fc4", "#009E73"]);
    note.textContent = `It is level ${there}. You pay ${round(game.bits.at(-1)[0])} bits, the model ${round(game.bits.at(-1)[1])}.`;
    go.textContent = "next";
  };
  const end = () => {
    const [you, it] = [0, 1].map((who) => game.bits.reduce((sum, pair) => sum + pair[who], 0) / game.bits.length);
    board.show(null, { missing: null, at: null });
    note.textContent = `Bits per pixel: you ${round(you)}, the model ${round(it)}. ${you < it ? "You win." : "The model wins."} Who knows nothing pays ${round(Math.log2(levels))}.`;
    game = null;
  };
  const deal = () => {
    turn = Math.random();
    talk.say({ do: "deal", turn, model: facts.models[which.value], seed: Math.floor(Math.random() * 1e9) });
  };
  const go = h("button", { onclick: press }, "guess");
  const talk = kernel(model, note, {
    dealt(message, [image, pmf, rank]) {
      if (message.turn !== turn) return;
      const ranks = Array.from(new Int32Array(bytes(rank).slice().buffer));
      game = { k: 0, bits: [], pixels: message.pixels, image: bytes(image).slice(), pmf: parts(floats(pmf), levels), rank: ranks };
      ask();
    },
    trouble({ text }) {
      note.textContent = text;
    },
  });
  for (const control of [level, sure]) control.addEventListener("input", move);
  page(el, h("div", { class: "row controls" }, h("label", {}, "model", which), h("button", { onclick: deal }, "deal")), note,
    h("div", { class: "row" }, board.canvas, h("div", { class: "beside" }, hill,
      h("div", { class: "row controls" }, h("label", {}, "level", level), value, h("label", {}, "how sure", sure), go))));
  board.show(null);
  move();
  return () => talk.end();
}

// -- names for the controls of ipywidgets ------------------------------------------------------------

// A screen reader finds no name at a slider of ipywidgets, and does not hear which button of a row is pressed; and
// Notebook 7 takes its arrow keys.
function names({ el }) {
  const give = (box) => box.querySelectorAll(".widget-label").forEach((label) => {
    const group = label.parentElement, name = label.textContent;
    if (!name) return;
    group.querySelectorAll("[role=slider], .widget-readout").forEach((part) => part.setAttribute("aria-label", name));
    const buttons = group.querySelectorAll(".widget-toggle-button");
    if (!buttons.length) return;
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", name);
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.classList.contains("mod-active"))));
  });
  let watch = null, frame = 0;
  const begin = () => {
    const box = el.closest(".widget-vbox");
    if (!box) return void (frame = requestAnimationFrame(begin));
    box.addEventListener("focusin", keepKeys);
    give(box);
    watch = new MutationObserver(() => give(box));
    watch.observe(box, { subtree: true, childList: true, attributeFilter: ["class"] });
  };
  begin();
  return () => {
    cancelAnimationFrame(frame);
    watch?.disconnect();
  };
}

export default { render: (context) => ({ studio, who, guess, names })[context.model.get("kind")](context) };
