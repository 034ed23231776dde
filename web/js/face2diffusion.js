// The pack's one script that the frontend loads by itself; it puts the parts together. Each part may have:
// settings, commands, keybindings (as ComfyUI's extensions have them), nodeCreated(node), setup().
import { app } from "../../../scripts/app.js";
import { loadStyle } from "./common.mjs";
import { doctor } from "./doctor.mjs";
import { fetching } from "./fetch.mjs";
import { people } from "./library.mjs";
import { picker } from "./picker.mjs";
import { tokens } from "./tokens.mjs";
import { training } from "./training.mjs";

const parts = [picker, tokens, training, people, doctor, fetching];

app.registerExtension({
  name: "face2diffusion",
  settings: parts.flatMap((part) => part.settings ?? []),
  commands: parts.flatMap((part) => part.commands ?? []),
  keybindings: parts.flatMap((part) => part.keybindings ?? []),
  menuCommands: parts.flatMap((part) => part.menuCommands ?? []),
  bottomPanelTabs: parts.flatMap((part) => part.bottomPanelTabs ?? []),
  nodeCreated(node) {
    for (const part of parts) part.nodeCreated?.(node);
  },
  setup() {
    loadStyle();
    for (const part of parts) part.setup?.();
  },
});
