// The training panel on Train Mapping Network: curves, previews and time left. What the server has on disk is read again
// after a reload, and now and then while the run goes on; events tell the rest.
import { api } from "../../../scripts/api.js";
import { addPanel, after, ask, debounced, fit, focusPanel, h, onChange, textOf, viewUrl, widgetNamed } from "./common.mjs";

const KIND = "F2DTrainMapping";
const EVENT = "f2d.train";
const MIN_PX = 210;
const LEAST_MS = 4000; // between two readings of the files
const CURVES = { foreground: ["face", "#ffb400"], background: ["rest", "#4aa3df"], edited: ["edited", "#37c99b"] };
const VALIDATION = ["validation", "#e0559a"];
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [300, 100, 34, 12]; // of the drawing; it is stretched to the panel
const SVG = "http://www.w3.org/2000/svg";
const panels = new Set();

class TrainingPanel {
  constructor(node) {
    this.node = node;
    this.state = null;
    this.live = null;
    this.readAt = 0;
    this.readMs = 0;
    this.line = h("div", { role: "status", className: "f2d-quiet" });
    this.legend = h("div", { className: "f2d-bar" });
    this.drawing = document.createElementNS(SVG, "svg");
    this.drawing.setAttribute("class", "f2d-curve");
    this.drawing.setAttribute("role", "img");
    this.strip = h("div", { className: "f2d-strip", tabIndex: 0, role: "region", "aria-label": "Previews" });
    this.element = h("div", { className: "f2d-training", role: "group", "aria-label": "Training", tabIndex: -1 });
    this.element.append(this.line, this.legend, this.drawing, this.strip);
    addPanel(node, "training", this.element, MIN_PX);
    this.sizes = new ResizeObserver(() => this.drawCurves());
    this.sizes.observe(this.drawing);
    const readSoon = debounced(() => node.graph && this.run !== this.asked && this.read(), 400);
    onChange(node, readSoon);
    after(node, "onExecuted", () => this.ended());
    after(node, "onRemoved", () => this.remove());
    panels.add(this);
    this.draw();
    readSoon();
  }

  get run() {
    return textOf(this.node, "run_name")?.trim() ?? "";
  }

  remove() {
    this.sizes.disconnect();
    panels.delete(this);
  }

  /** What lies on disk of the run that the node names. */
  async read() {
    const run = (this.asked = this.run);
    this.readAt = performance.now();
    let state;
    try {
      state = run ? await ask(`/f2d/training?${new URLSearchParams({ run })}`) : null;
    } catch (error) {
      state = { error: error.message };
    }
    if (run !== this.asked) return;
    this.readMs = performance.now() - this.readAt;
    this.state = state;
    if (this.live?.run !== run) this.live = null;
    this.draw();
  }

  /** An event of the run. */
  tell(facts) {
    this.live = facts;
    const rest = Math.max(LEAST_MS, 20 * this.readMs); // a long run takes longer to read
    if (facts.run !== this.asked || performance.now() - this.readAt > rest) this.read();
    else this.draw();
  }

  ended() {
    this.live = null;
    this.read();
  }

  draw() {
    this.line.replaceChildren(...this.words());
    this.drawLegend();
    this.drawCurves();
    this.drawPreviews();
    fit(this.node);
  }

  words() {
    if (this.state?.error) return [h("span", { className: "f2d-bad" }, this.state.error)];
    const step = Math.max(this.live?.step ?? 0, this.state?.step ?? 0);
    const steps = this.live?.steps ?? widgetNamed(this.node, "steps")?.value;
    if (!step) return ["The curves of the run appear here, also after a reload."];
    const left = this.live && step < steps ? `, ${duration(this.live.seconds_left)} left` : "";
    const loss = this.live ? `, loss ${this.live.loss.toFixed(4)}` : "";
    return [`Step ${step} of ${Math.max(steps, step)}${loss}${left}`];
  }

  /** name -> {label, colour, points: [[step, value], …]} */
  curves() {
    const rows = [...(this.state?.curve ?? [])];
    if (this.live && this.live.step > (rows.at(-1)?.step ?? 0)) rows.push(this.live);
    const points = (rows, name) => rows.filter((row) => name in row).map((row) => [row.step, row[name]]);
    const curves = Object.entries(CURVES).map(([name, [label, colour]]) => ({ label, colour, points: points(rows, name) }));
    const [label, colour] = VALIDATION;
    const validation = { label, colour, points: points(this.state?.validation ?? [], "loss"), dotted: true };
    return [...curves, validation].filter((curve) => curve.points.length);
  }

  drawLegend() {
    const entries = this.curves().map(({ label, colour, points }) => {
      const entry = h("span", { className: "f2d-legend" }, `${label} ${points.at(-1)[1].toFixed(4)}`);
      entry.style.setProperty("--f2d-person", colour);
      return entry;
    });
    this.legend.replaceChildren(...entries);
  }

  drawCurves() {
    const curves = this.curves();
    this.drawing.setAttribute("aria-label", curves.map(({ label, points }) => `${label} ${points.at(-1)[1].toFixed(4)}`).join(", ") || "No curve yet");
    this.drawing.replaceChildren(...(curves.length ? chart(curves, this.drawing.clientWidth || WIDTH, this.drawing.clientHeight || HEIGHT) : []));
  }

  drawPreviews() {
    const files = this.state?.previews ?? [];
    const key = files.map((file) => file.filename).join();
    if (key === this.shown) return;
    this.shown = key;
    this.strip.style.display = files.length ? "" : "none";
    this.strip.replaceChildren(...files.map(preview));
    this.strip.scrollLeft = this.strip.scrollWidth;
  }
}

function preview(file) {
  const step = Number(file.filename.match(/\d+/)?.[0] ?? 0);
  const image = h("img", { src: viewUrl(file), alt: `Preview at step ${step}`, draggable: false });
  return h("figure", {}, image, h("figcaption", {}, `step ${step}`));
}

/** The elements of a drawing of width x height px: two grid lines with values, the last step, and the curves. */
function chart(curves, width, height) {
  const all = curves.flatMap((curve) => curve.points);
  const [first, last] = [Math.min(...all.map((p) => p[0])), Math.max(...all.map((p) => p[0]))];
  const values = all.map((p) => p[1]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (step) => LEFT + ((step - first) / (last - first || 1)) * (width - LEFT - 6);
  const y = (value) => 6 + (1 - (value - low) / (high - low || 1)) * (height - BOTTOM - 10);
  const grid = [low, high].flatMap((value) => [
    shape("line", { x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
    shape("text", { x: 0, y: y(value) + 3 }, value.toPrecision(3)),
  ]);
  const steps = [
    shape("text", { x: LEFT, y: height - 1 }, String(first)),
    shape("text", { x: width - 4, y: height - 1, "text-anchor": "end" }, `step ${last}`),
  ];
  const lines = curves.map(({ colour, points, dotted }) => {
    const path = points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    return shape("polyline", { points: path, stroke: colour, "stroke-dasharray": dotted ? "4 3" : "" });
  });
  const dots = curves.filter((curve) => curve.points.length < 3 || curve.dotted).flatMap(({ colour, points }) =>
    points.slice(-50).map(([step, value]) => shape("circle", { cx: x(step), cy: y(value), r: 2, fill: colour })),
  );
  return [...grid, ...steps, ...lines, ...dots];
}

function shape(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return `${Math.round(seconds)} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export const training = {
  commands: [
    {
      id: "Face2Diffusion.FocusTraining",
      label: "Face2Diffusion: go to the training panel",
      icon: "pi pi-chart-line",
      function: () => focusPanel([KIND], ".f2d-strip"),
    },
  ],
  nodeCreated(node) {
    if (node.comfyClass === KIND) new TrainingPanel(node);
  },
  setup() {
    api.addEventListener(EVENT, ({ detail }) => {
      for (const panel of panels) if (String(panel.node.id) === String(detail.node).split(":").at(-1)) panel.tell(detail);
    });
  },
};
