// Small helpers that the parts share: elements, panels on nodes, the server, and who is connected to whom.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

// --- elements ---

/** An element with properties, attributes (aria-…, data-…, role), listeners (onclick) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Our style sheet, once; all its rules begin with .f2d. */
export function loadStyle() {
  const href = new URL("./face2diffusion.css", import.meta.url).href;
  document.head.append(h("link", { rel: "stylesheet", href }));
}

/** Call `act` when `ms` have passed without another call. */
export function debounced(act, ms) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };
}

// --- nodes ---

/** An element below the widgets of a node. It is neither saved nor sent. minHeight: a number of px, or what gives it. */
export function addPanel(node, name, element, minHeight) {
  element.classList.add("f2d");
  // The canvas would drag the node, zoom, or take the keys as its own.
  for (const type of ["pointerdown", "mousedown", "dblclick", "contextmenu"]) {
    element.addEventListener(type, (event) => event.target !== element && event.stopPropagation());
  }
  element.addEventListener("keydown", (event) => KEYS_OF_PANELS.has(event.key) && event.stopPropagation());
  const getMinHeight = () => (typeof minHeight === "function" ? minHeight() : minHeight) + 2 * MARGIN_PX;
  const options = { serialize: false, hideOnZoom: false, margin: MARGIN_PX, getMinHeight };
  const widget = node.addDOMWidget(name, `f2d_${name}`, element, options);
  widget.serialize = false;
  return widget;
}

/** Show or hide a panel. The classic canvas places and hides its elements only while it draws, so a change asks for that. */
export function showPanel(panel, shown) {
  if (Boolean(panel.hidden) === !shown) return;
  panel.hidden = !shown;
  panel.element.style.display = shown ? "" : "none";
  redraw();
}

const MARGIN_PX = 5;
const KEYS_OF_PANELS = new Set([
  "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Enter", " ", "Delete", "Backspace",
]);

/** Make room for a panel that has grown; the width and the rest stay. */
export function fit(node) {
  const least = node.computeSize()[1];
  if (node.size[1] < least) node.setSize([node.size[0], least]);
  redraw();
}

export function redraw() {
  app.canvas?.setDirty(true, true);
}

export function widgetNamed(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** Set a widget as if the user had. */
export function setWidget(node, name, value) {
  const widget = widgetNamed(node, name);
  if (!widget || widget.value === value) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  redraw();
}

/** `act` after the node's own handler of that name (onExecuted, onConnectionsChange, …). */
export function after(object, name, act) {
  const own = object[name];
  object[name] = function (...values) {
    const result = own?.apply(this, values);
    act.apply(this, values);
    return result;
  };
}

/** Call `act` when one of the node's widgets or connections, or anything else in the graph, has changed. */
export function onChange(node, act) {
  for (const widget of node.widgets ?? []) after(widget, "callback", act);
  after(node, "onConnectionsChange", act);
  after(node, "onConfigure", act);
  api.addEventListener("graphChanged", act);
  after(node, "onRemoved", () => api.removeEventListener("graphChanged", act));
}

/** All nodes of the open workflow, those in subgraphs included. */
export function allNodes(graph = app.rootGraph ?? app.graph) {
  return (graph?.nodes ?? graph?._nodes ?? []).flatMap((node) =>
    node.subgraph ? [node, ...allNodes(node.subgraph)] : [node],
  );
}

/** Select a node, bring it into view and put the focus into its panel; false where no node of the kinds is there. */
export function focusPanel(kinds, selector) {
  const chosen = Object.values(app.canvas.selected_nodes ?? {});
  const node = [...chosen, ...(app.canvas.graph?.nodes ?? [])].find((each) => kinds.includes(each.comfyClass));
  if (!node) return false;
  app.canvas.selectNode?.(node);
  app.canvas.centerOnNode?.(node);
  const find = () => {
    const panel = node.widgets?.find((widget) => widget.element?.matches?.(".f2d"))?.element;
    (panel?.querySelector(selector) ?? panel)?.focus();
  };
  requestAnimationFrame(() => requestAnimationFrame(find));
  return true;
}

// --- connections ---

const SUBGRAPH_INPUT = -10; // LiteGraph's number of the node that stands for a subgraph's inputs

/** Where the value of an input comes from: {node, slot}, through reroutes, bypassed nodes and subgraphs, or null. */
export function sourceOf(node, inputName) {
  const slot = node.inputs?.findIndex((input) => input.name === inputName) ?? -1;
  return slot < 0 ? null : sourceOfSlot(node, slot);
}

function sourceOfSlot(node, slot, depth = 0) {
  const link = linkOf(node.graph, node.inputs?.[slot]?.link);
  if (!link || depth > 64) return null;
  if (link.origin_id === SUBGRAPH_INPUT) {
    const owner = allNodes().find((each) => each.subgraph === node.graph);
    return owner ? sourceOfSlot(owner, link.origin_slot, depth + 1) : null;
  }
  return resolved(node.graph.getNodeById(link.origin_id), link.origin_slot, depth + 1);
}

function resolved(node, slot, depth) {
  if (!node || depth > 64) return null;
  if (node.subgraph) {
    const inside = linkOf(node.subgraph, node.subgraph.outputs?.[slot]?.linkIds?.[0]);
    return inside ? resolved(node.subgraph.getNodeById(inside.origin_id), inside.origin_slot, depth + 1) : null;
  }
  if (node.type === "Reroute") return sourceOfSlot(node, 0, depth + 1);
  if (node.mode === LiteGraph.NEVER) return null;
  if (node.mode === BYPASSED) {
    const type = node.outputs?.[slot]?.type;
    const through = node.inputs?.findIndex((input) => input.type === type) ?? -1;
    return through < 0 ? null : sourceOfSlot(node, through, depth + 1);
  }
  return { node, slot };
}

const BYPASSED = 4;

function linkOf(graph, id) {
  if (id === null || id === undefined || !graph) return null;
  return graph.getLink?.(id) ?? graph.links?.get?.(id) ?? graph.links?.[id] ?? null;
}

/** The nodes that an output leads to, through reroutes: [{node, input}]. */
export function targetsOf(node, slot, depth = 0) {
  if (depth > 64) return [];
  return (node.outputs?.[slot]?.links ?? []).flatMap((id) => {
    const link = linkOf(node.graph, id);
    const target = link && node.graph.getNodeById(link.target_id);
    if (!target) return [];
    if (target.type === "Reroute") return targetsOf(target, 0, depth + 1);
    return [{ node: target, input: target.inputs?.[link.target_slot]?.name }];
  });
}

/** The text of a widget, also where it has become a socket that another node's text goes into; null if unknown. */
export function textOf(node, name) {
  const input = node.inputs?.find((each) => each.name === name);
  if (input?.link === null || input?.link === undefined) return widgetNamed(node, name)?.value ?? null;
  const source = sourceOf(node, name);
  const values = (source?.node.widgets ?? []).filter((widget) => typeof widget.value === "string");
  const plain = PLAIN_TEXTS.has(source?.node.type);
  return plain && values.length ? values[0].value : null;
}

const PLAIN_TEXTS = new Set(["PrimitiveNode", "PrimitiveString", "PrimitiveStringMultiline"]);

// --- server ---

/** What a route of ours answers. Throws an Error with its one line. */
export async function ask(path, body) {
  const options = body === undefined
    ? {}
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await api.fetchApi(path, options);
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ?? `${path}: ${answer.status}`);
  return found;
}

/** The address of a file that the server saved. */
export function viewUrl({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

export function setting(id) {
  return app.extensionManager.setting.get(id);
}

export function toast(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: 8000 });
}
