// The identity library: every saved S* in a tab at the side, to be dragged onto the canvas.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { allNodes, ask, debounced, h, setWidget, toast, widgetNamed } from "./common.mjs";
import { askFor, confirmed, field } from "./dialog.mjs";

const TAB = "f2d-library";
const LOAD = "F2DLoadSStar";
const SAVE = "F2DSaveSStar";
const DRAGGED = "application/x-f2d-identity";
const MOST_BYTES = 700_000; // as f2d_core/library.py
const ENDING = ".safetensors";
const SHORT = 10; // characters of a hash
let library = null; // the one that is shown

// --- onto the canvas ---

/** A Load S* with that file at a place of the canvas, selected. */
async function addLoader(file, [x, y]) {
  const node = await loaderKnowing(file);
  const graph = app.canvas.graph ?? app.graph;
  graph.beforeChange?.();
  node.pos = [x, y];
  graph.add(node);
  setWidget(node, "file", file);
  graph.afterChange?.();
  app.canvas.selectNode?.(node);
}

/** A Load S* whose list has that file, which may have come after the page was opened. */
async function loaderKnowing(file) {
  const node = LiteGraph.createNode(LOAD);
  if (widgetNamed(node, "file").options.values.includes(file)) return node;
  await app.reloadNodeDefs?.();
  return LiteGraph.createNode(LOAD);
}

function middleOfCanvas() {
  const box = app.canvas.canvas.getBoundingClientRect();
  return placeOnCanvas(box.left + box.width / 2, box.top + box.height / 2);
}

function placeOnCanvas(x, y) {
  return app.clientPosToCanvasPos?.([x, y]) ?? app.canvas.convertEventToCanvasOffset({ clientX: x, clientY: y });
}

/** While one of ours is dragged: the page takes it where the canvas is, or a node that lies on it. */
function watchDrag() {
  const over = (event) => {
    if (!isOnCanvas(event)) return;
    event.preventDefault();
    event.stopPropagation();
    event.dataTransfer.dropEffect = "copy";
  };
  const drop = (event) => {
    if (!isOnCanvas(event)) return;
    event.preventDefault();
    event.stopPropagation();
    addLoader(event.dataTransfer.getData(DRAGGED), placeOnCanvas(event.clientX, event.clientY));
  };
  document.addEventListener("dragover", over, true);
  document.addEventListener("drop", drop, true);
  document.addEventListener("dragend", () => {
    document.removeEventListener("dragover", over, true);
    document.removeEventListener("drop", drop, true);
  }, { once: true, capture: true });
}

function isOnCanvas({ target, clientX, clientY }) {
  const canvas = app.canvas.canvas;
  if (target === canvas) return true;
  const box = canvas.getBoundingClientRect();
  const inside = clientX >= box.left && clientX <= box.right && clientY >= box.top && clientY <= box.bottom;
  return inside && Boolean(target.closest?.(".lg-node, [data-node-id], #graph-canvas-container, .graph-canvas-container"));
}

// --- the tab ---

class Library {
  constructor(root) {
    this.entries = [];
    this.search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search people", oninput: () => this.draw() });
    this.picked = h("input", { type: "file", accept: ENDING, multiple: true, hidden: true });
    this.picked.onchange = () => this.take([...this.picked.files]);
    this.list = h("ul", { className: "f2d-people", "aria-label": "Saved people" });
    this.note = h("p", { className: "f2d-quiet", role: "status" });
    const button = (textContent, onclick) => h("button", { type: "button", textContent, onclick });
    const bar = h("div", { className: "f2d-bar" }, button("Import …", () => this.picked.click()), button("Refresh", () => this.refresh()));
    this.element = h("section", { className: "f2d f2d-library", "aria-label": "Identity library" });
    this.element.append(h("h2", { textContent: "People" }), this.search, bar, this.picked, this.note, this.list);
    this.element.addEventListener("keydown", (event) => event.stopPropagation()); // the canvas would take Delete and others
    this.element.addEventListener("dragover", (event) => this.over(event));
    this.element.addEventListener("dragleave", () => this.element.classList.remove("f2d-over"));
    this.element.addEventListener("drop", (event) => this.dropped(event));
    root.replaceChildren(this.element);
    this.refresh();
  }

  async refresh() {
    try {
      const { entries, left_off, text_encoders } = await ask("/f2d/identities");
      this.entries = entries;
      this.leftOff = left_off;
      this.textEncoders = text_encoders;
      this.draw();
    } catch (error) {
      this.note.textContent = error.message;
    }
  }

  draw() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (entry) => words.every((word) => searched(entry).includes(word));
    const found = this.entries.filter(fits);
    this.list.replaceChildren(...found.map((entry) => this.card(entry)));
    this.note.textContent = this.said(found.length);
  }

  said(count) {
    if (!this.entries.length) return "Nobody yet. Run Save S*, or drop an identity file here.";
    const hidden = this.leftOff ? ` ${this.leftOff} more are not shown.` : "";
    return `${count} of ${this.entries.length}. Drag one onto the canvas, or press Enter.${hidden}`;
  }

  card(entry) {
    return entry.problem ? this.damaged(entry) : this.person(entry);
  }

  person(entry) {
    const title = entry.name || entry.marker;
    const picture = entry.thumbnail
      ? h("img", { src: entry.thumbnail, alt: "", width: 56, height: 56, draggable: false })
      : h("span", { className: "f2d-nobody pi pi-user", "aria-hidden": "true" });
    const handle = h(
      "div",
      {
        className: "f2d-person",
        role: "button",
        tabIndex: 0,
        draggable: true,
        "aria-label": `${title}, marker ${entry.marker}: add Load S*`,
        "aria-keyshortcuts": "Enter F2 Delete",
        title: "Drag onto the canvas, double-click or press Enter. F2 renames, Delete deletes.",
      },
      picture,
      h("span", {}, h("strong", { textContent: title }), h("code", { textContent: entry.marker }), h("span", { className: "f2d-quiet", textContent: entry.file })),
    );
    handle.addEventListener("dblclick", () => addLoader(entry.file, middleOfCanvas()));
    handle.addEventListener("keydown", (event) => this.key(event, entry));
    handle.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData(DRAGGED, entry.file);
      event.dataTransfer.effectAllowed = "copy";
      watchDrag();
    });
    return h("li", { "data-file": entry.file }, handle, this.actions(entry), origin(entry));
  }

  damaged(entry) {
    const problem = h("p", { className: "f2d-problem", textContent: entry.problem });
    const remove = this.action("Delete", entry, () => this.remove(entry));
    return h("li", { "data-file": entry.file, className: "f2d-damaged" }, h("strong", { textContent: entry.file }), problem, remove);
  }

  action(label, entry, onclick) {
    return h("button", { type: "button", textContent: label, "aria-label": `${label} ${entry.name || entry.file}`, onclick });
  }

  actions(entry) {
    return h(
      "div",
      { className: "f2d-bar" },
      this.action("Rename", entry, () => this.rename(entry)),
      this.action("Export", entry, () => this.export(entry)),
      this.action("Download", entry, () => this.download(entry)),
      this.action("Delete", entry, () => this.remove(entry)),
    );
  }

  key(event, entry) {
    const act = {
      Enter: () => addLoader(entry.file, middleOfCanvas()),
      " ": () => addLoader(entry.file, middleOfCanvas()),
      F2: () => this.rename(entry),
      Delete: () => this.remove(entry),
      ArrowDown: () => this.move(event.target, 1),
      ArrowUp: () => this.move(event.target, -1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  move(handle, step) {
    const handles = [...this.list.querySelectorAll(".f2d-person")];
    handles[handles.indexOf(handle) + step]?.focus();
  }

  async rename(entry) {
    const name = h("input", { value: entry.name || stem(entry.file), required: true, maxLength: 100 });
    const submit = () => ask("/f2d/identities/rename", { file: entry.file, name: name.value });
    const note = "The file gets this name too. Load S* nodes that use the old name have to be set again.";
    const found = await askFor({ title: `Rename ${entry.name || entry.file}`, note, fields: [field("Name", name)], yes: "Rename", submit });
    if (found) await this.changed(found.file);
  }

  async remove(entry) {
    const text = `${entry.file} is deleted from the disk. This cannot be undone.`;
    if (!(await confirmed(`Delete ${entry.name || entry.file}?`, text, "Delete"))) return;
    await this.try(() => ask("/f2d/identities/delete", { file: entry.file }));
    await this.changed();
  }

  /** As Export S* as Embedding does: the published convention is exact at one position, of one text encoder. */
  async export(entry) {
    const name = h("input", { value: stem(entry.file), required: true, maxLength: 100 });
    const position = h("input", { type: "number", min: 1, max: 75, value: 4, required: true });
    const encoder = h("select", {}, this.textEncoders.map((file) => h("option", { value: file, textContent: file })));
    const place = entry.needs_position
      ? [field("Token of the prompt that the word will be (4 in “a photo of X”)", position), field("Checkpoint or text encoder it will be used with", encoder)]
      : [];
    const note = entry.needs_position
      ? "A plain embedding for models/embeddings. This S* is of the convention sum: the embedding is exact at one place of the prompt only."
      : "A plain embedding for models/embeddings, exact everywhere in a prompt.";
    const submit = () =>
      ask("/f2d/identities/export", { file: entry.file, name: name.value, position: Number(position.value), text_encoder: encoder.value });
    const fields = [field("Name", name), ...place];
    const found = await askFor({ title: `Export ${entry.name || entry.file}`, note, fields, yes: "Export", submit });
    if (found) toast("success", "Exported", `Write embedding:${found.embedding} in any prompt.`);
  }

  download(entry) {
    return this.try(async () => {
      const { name, data } = await ask(`/f2d/identities/data?${new URLSearchParams({ file: entry.file })}`);
      const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
      const href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
      h("a", { href, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(href), 10_000);
    });
  }

  over(event) {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    this.element.classList.add("f2d-over");
  }

  dropped(event) {
    this.element.classList.remove("f2d-over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    event.stopPropagation(); // the frontend would open the file as a workflow
    this.take([...event.dataTransfer.files]);
  }

  async take(files) {
    for (const file of files) {
      await this.try(async () => {
        if (file.size > MOST_BYTES) throw new Error(`${file.name} is larger than an identity file can be.`);
        const data = (await asDataUrl(file)).split(",")[1] ?? "";
        const added = await ask("/f2d/identities/import", { name: file.name, data });
        toast("success", "Imported", added.file);
      });
    }
    this.picked.value = "";
    await this.changed();
  }

  async try(act) {
    try {
      return await act();
    } catch (error) {
      toast("error", "Identity library", error.message);
    }
  }

  /** The list here, and those in Load S* nodes. */
  async changed(file) {
    await this.refresh();
    const card = [...this.list.children].find((each) => each.dataset.file === file);
    card?.querySelector(".f2d-person")?.focus();
    await app.reloadNodeDefs?.();
  }
}

function searched({ file, name, marker, licence, detector, features }) {
  return [file, name, marker, licence, detector, features].join(" ").toLowerCase();
}

function stem(file) {
  return file.split("/").at(-1).slice(0, -ENDING.length);
}

/** Where somebody comes from, and under which licence. */
function origin(entry) {
  const facts = [
    ["Licence", entry.licence || "not said"],
    ["Encoder", [entry.features, short(entry.msid_sha256)].filter(Boolean).join(" ")],
    ["Mapping", [entry.injection, short(entry.mapping_sha256)].filter(Boolean).join(" ")],
    ["Detector", entry.detector],
    ["Photo", short(entry.image_sha256)],
    ["Words", `${entry.words}, text encoder ${entry.encoder_key}`],
  ].filter(([, value]) => value);
  const list = h("dl", {}, facts.flatMap(([name, value]) => [h("dt", { textContent: name }), h("dd", { textContent: value })]));
  return h("details", {}, h("summary", { textContent: entry.licence || "Origin" }), list);
}

function short(hash) {
  return hash ? hash.slice(0, SHORT) : "";
}

function asDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

/** Somebody may have been saved. */
const afterRun = debounced(async () => {
  if (!allNodes().some((node) => node.comfyClass === SAVE)) return;
  await library?.changed();
  if (!library) await app.reloadNodeDefs?.();
}, 300);

export const people = {
  commands: [
    {
      id: "Face2Diffusion.Library",
      label: "Face2Diffusion: Identity library",
      icon: "pi pi-users",
      function: () => app.extensionManager.command.execute(`Workspace.ToggleSidebarTab.${TAB}`),
    },
  ],
  keybindings: [{ combo: { key: "i", alt: true, shift: true }, commandId: "Face2Diffusion.Library" }],
  menuCommands: [{ path: ["Extensions", "Face2Diffusion"], commands: ["Face2Diffusion.Library"] }],
  setup() {
    app.extensionManager.registerSidebarTab({
      id: TAB,
      icon: "pi pi-users",
      title: "People",
      tooltip: "Identity library (Face2Diffusion)",
      type: "custom",
      render: (element) => (library = new Library(element)),
      destroy: () => (library = null),
    });
    api.addEventListener("execution_success", afterRun);
  },
};
