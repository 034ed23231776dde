// The face picker: the picture with its faces as buttons, on Detect Faces and Encode Face → S*.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addPanel, after, debounced, fit, focusPanel, h, onChange, setting, setWidget, showPanel, targetsOf, viewUrl, widgetNamed } from "./common.mjs";

const DETECT = "F2DDetectFaces";
const KINDS = [DETECT, "F2DEncodeFace"];
const SETTING = "Face2Diffusion.FacePicker.Enabled";
const HINT_PX = 44;
const PICTURE_PX = 220;
const pickers = new Set();

class Picker {
  constructor(node) {
    this.node = node;
    this.pictures = [];
    this.page = 0;
    this.target = null;
    this.bar = h("div", { className: "f2d-bar" });
    this.frame = h("div", { className: "f2d-frame", role: "radiogroup", "aria-label": "Faces" });
    this.stage = h("div", { className: "f2d-stage" }, this.frame);
    this.element = h("div", { className: "f2d-picker", role: "group", "aria-label": "Face picker", tabIndex: -1 });
    this.element.append(this.bar, this.stage);
    this.panel = addPanel(node, "face_picker", this.element, () => (this.pictures.length ? PICTURE_PX : HINT_PX));
    this.sizes = new ResizeObserver(() => this.place());
    this.sizes.observe(this.stage);
    const refresh = debounced(() => this.draw(), 50);
    onChange(node, refresh);
    after(node, "onExecuted", (output) => this.hear(output));
    after(node, "onRemoved", () => this.remove());
    pickers.add(this);
    this.draw();
  }

  remove() {
    this.sizes.disconnect();
    pickers.delete(this);
  }

  hear(output) {
    if (!output?.f2d_faces) return;
    this.told = true;
    this.show(output.f2d_faces);
  }

  /** The faces of a run that has ended. */
  show(pictures) {
    const key = (pictures) => pictures.map((picture) => picture.image.filename).join();
    if (key(pictures) !== key(this.pictures)) this.page = 0;
    this.pictures = pictures;
    // Nodes 2.0 asks a panel for its height once, when there was nothing to see.
    this.element.style.minHeight = pictures.length ? `${PICTURE_PX}px` : "";
    this.draw();
    fit(this.node);
  }

  /** The nodes whose index is chosen here: the node itself, or those that Detect Faces is connected to. */
  targets() {
    if (widgetNamed(this.node, "index")) return [this.node];
    const found = targetsOf(this.node, 0).map((target) => target.node);
    return [...new Set(found)].filter((node) => widgetNamed(node, "index"));
  }

  get order() {
    return widgetNamed(this.node, "order")?.value;
  }

  draw() {
    showPanel(this.panel, setting(SETTING));
    const targets = this.targets();
    if (!targets.includes(this.target)) this.target = targets[0] ?? null;
    const picture = this.pictures[this.page];
    const chosen = this.target && ["order", "index"].map((name) => widgetNamed(this.target, name).value);
    const state = [picture?.image.filename, this.page, this.pictures.length, this.order, chosen, this.target?.id];
    const drawn = JSON.stringify([...state, targets.map((node) => [node.id, node.title])]);
    if (drawn === this.drawn) return; // the focus stays where it is
    this.drawn = drawn;
    this.bar.replaceChildren(...this.controls(targets, picture));
    this.frame.replaceChildren(...(picture ? this.faces(picture) : []));
    this.place();
  }

  controls(targets, picture) {
    if (!picture) return [h("span", { className: "f2d-quiet" }, "Run this node once; then click the face that you mean.")];
    const turn = (by, label, text) => {
      const at = this.page + by;
      const disabled = at < 0 || at >= this.pictures.length;
      return h("button", { type: "button", "aria-label": label, disabled, onclick: () => this.turn(at, label) }, text);
    };
    const pages = [
      turn(-1, "Picture before", "◀"),
      h("span", {}, `${this.page + 1} / ${this.pictures.length}`),
      turn(1, "Next picture", "▶"),
    ];
    const shown = [...(this.pictures.length > 1 ? pages : []), this.chooser(targets), this.status(picture)];
    return shown.filter(Boolean);
  }

  turn(page, label) {
    this.page = page;
    this.draw();
    const again = this.bar.querySelector(`[aria-label="${label}"]:not(:disabled)`) ?? this.bar.querySelector("button:not(:disabled)");
    again?.focus();
  }

  /** Whose face is chosen, where Detect Faces leads to several. */
  chooser(targets) {
    if (targets.length < 2) return null;
    const options = targets.map((node) => {
      const selected = node === this.target;
      return h("option", { value: String(node.id), selected }, `${node.title} (#${node.id})`);
    });
    const choose = (event) => {
      this.target = targets.find((node) => String(node.id) === event.target.value);
      this.draw();
    };
    return h("select", { "aria-label": "For which node", onchange: choose }, options);
  }

  status(picture) {
    const say = (text, bad) => h("span", { className: bad ? "f2d-bad" : "f2d-quiet", role: "status" }, text);
    const count = picture.faces.length;
    if (!count) return say("No face found in this picture.", true);
    if (!this.target) return say("Connect faces to Encode Face → S*, then click a face.");
    if (this.chosen(picture)) return say(`Face ${this.indexOf(this.chosen(picture))} of ${count} is taken.`);
    return say(`There is no face ${widgetNamed(this.target, "index").value}: click one.`, true);
  }

  indexOf(face) {
    return face.index[this.order];
  }

  chosen(picture) {
    if (!this.target) return null;
    const [order, index] = ["order", "index"].map((name) => widgetNamed(this.target, name)?.value);
    return picture.faces.find((face) => face.index[order] === index) ?? null;
  }

  faces(picture) {
    const chosen = this.chosen(picture);
    const faces = [...picture.faces].sort((a, b) => this.indexOf(a) - this.indexOf(b));
    const image = h("img", { src: viewUrl(picture.image), alt: "", draggable: false });
    const buttons = faces.map((face, i) => this.button(picture, face, face === chosen, (chosen ?? faces[0]) === face, faces, i));
    return [image, ...buttons];
  }

  button(picture, face, checked, reachable, faces, at) {
    const [x0, y0, x1, y1] = face.box;
    const part = (value, whole) => `${(100 * value) / whole}%`;
    const button = h(
      "button",
      {
        type: "button",
        className: "f2d-face",
        role: "radio",
        "aria-checked": String(checked),
        "aria-label": `Face ${this.indexOf(face)}, score ${face.score.toFixed(2)}`,
        title: `Face ${this.indexOf(face)} (score ${face.score.toFixed(2)})`,
        tabIndex: reachable ? 0 : -1,
        disabled: !this.target,
        onclick: () => this.pick(face),
        onkeydown: (event) => this.step(event, faces.length, at),
      },
      h("span", {}, String(this.indexOf(face))),
    );
    const [left, top] = [Math.max(0, x0), Math.max(0, y0)];
    const [right, bottom] = [Math.min(picture.width, x1), Math.min(picture.height, y1)];
    if (top < picture.height / 8) button.classList.add("f2d-high"); // no room for the number above it
    button.style.left = part(left, picture.width);
    button.style.top = part(top, picture.height);
    button.style.width = part(right - left, picture.width);
    button.style.height = part(bottom - top, picture.height);
    return button;
  }

  pick(face) {
    setWidget(this.target, "order", this.order);
    setWidget(this.target, "index", this.indexOf(face));
    this.draw();
    this.frame.querySelector('[aria-checked="true"]')?.focus();
  }

  /** Arrow keys go from face to face, Home and End to the first and last; Enter or blank takes the one in focus. */
  step(event, count, at) {
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: count - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.frame.querySelectorAll(".f2d-face")[(to + count) % count]?.focus();
  }

  /** As large as the picture fits. */
  place() {
    const picture = this.pictures[this.page];
    if (!picture) return;
    const { clientWidth: width, clientHeight: height } = this.stage;
    const scale = Math.min(width / picture.width, height / picture.height);
    const size = [picture.width * scale, picture.height * scale];
    Object.assign(this.frame.style, {
      width: `${size[0]}px`,
      height: `${size[1]}px`,
      left: `${(width - size[0]) / 2}px`,
      top: `${(height - size[1]) / 2}px`,
    });
  }
}

// --- what is not told ---
// The server sends the faces of a node when it runs: not after a reload, and not when it takes the result from its cache.
// Its history still has them.

const RUNS = 32;
const DECIDING = ["image", "detector", "threshold", "faces", "face_landmarks"]; // inputs that the faces depend on

/** among: how many of this workflow's newest runs a node may have been in. */
async function recall(pickers, among) {
  if (!pickers.length) return;
  const answer = await api.fetchApi(`/history?max_items=${RUNS}`);
  const runs = answer.ok ? Object.values(await answer.json()).sort((a, b) => b.prompt[0] - a.prompt[0]) : [];
  const workflow = (app.rootGraph ?? app.graph).id;
  const own = runs.filter((run) => run.prompt[3]?.extra_pnginfo?.workflow?.id === workflow).slice(0, among);
  for (const picker of pickers) {
    const found = facesOf(picker.node, own, runs);
    if (found) picker.show(found);
  }
}

/** The faces from the newest run that looked at the same pictures as this workflow's newest run did. */
function facesOf(node, own, runs) {
  for (const run of own) {
    const key = keyOf(run, node);
    if (key !== undefined) return sameFaces(signature(run.prompt[2], key), runs);
  }
  return null;
}

/** The server's number of a node; in a subgraph it is the path to it. */
function keyOf(run, node) {
  const mine = (key) => key.split(":").at(-1) === String(node.id) && run.prompt[2][key].class_type === node.comfyClass;
  return Object.keys(run.prompt[2]).find(mine);
}

function sameFaces(wanted, runs) {
  for (const run of runs) {
    const same = Object.keys(run.outputs).find((key) => run.outputs[key].f2d_faces && signature(run.prompt[2], key) === wanted);
    if (same) return run.outputs[same].f2d_faces;
  }
  return null;
}

function signature(prompt, key) {
  const node = prompt[key];
  return JSON.stringify(DECIDING.map((name) => [name, origin(prompt, node?.inputs[name])]).concat(node?.class_type));
}

/** A value as it is, a connection as everything that it is made of. */
function origin(prompt, value, depth = 0) {
  if (!Array.isArray(value) || depth > 64) return value;
  const node = prompt[value[0]];
  const inputs = Object.entries(node?.inputs ?? {}).map(([name, each]) => [name, origin(prompt, each, depth + 1)]);
  return [value[1], node?.class_type, inputs];
}

const quietly = (promise) => promise.catch((error) => console.warn("face2diffusion:", error));
const recallSoon = debounced(() => quietly(recall([...pickers].filter((picker) => !picker.pictures.length), RUNS)), 200);

export const picker = {
  settings: [
    {
      id: SETTING,
      name: "Face picker on Detect Faces and Encode Face",
      tooltip: "Click the face that you mean in the picture.",
      category: ["Face2Diffusion", "Panels on nodes", "Face picker"],
      type: "boolean",
      defaultValue: true,
      onChange: () => setTimeout(() => pickers.forEach((picker) => picker.draw())), // the new value is there then
    },
  ],
  commands: [
    {
      id: "Face2Diffusion.FocusFacePicker",
      label: "Face2Diffusion: go to the face picker",
      icon: "pi pi-users",
      function: () => focusPanel(KINDS, ".f2d-face[tabindex='0']"),
    },
  ],
  keybindings: [{ commandId: "Face2Diffusion.FocusFacePicker", combo: { key: "f", alt: true, shift: true } }],
  nodeCreated(node) {
    if (!KINDS.includes(node.comfyClass)) return;
    new Picker(node);
    recallSoon();
  },
  setup() {
    api.addEventListener("execution_start", () => pickers.forEach((picker) => (picker.told = false)));
    api.addEventListener("execution_success", () => quietly(recall([...pickers].filter((picker) => !picker.told), 1)));
  },
};
