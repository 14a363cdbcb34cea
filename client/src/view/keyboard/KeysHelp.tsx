import { isMac } from "../keys.ts";
import { useOverlays } from "../overlays.ts";
import { Dialog } from "../ui/Dialog.tsx";
import css from "./KeysHelp.module.css";

const CONTROL = isMac ? "⌘" : "Ctrl";
const ALT = isMac ? "⌥" : "Alt";

type Keys = readonly [what: string, ...ways: readonly (readonly string[])[]];

const GROUPS: readonly (readonly [title: string, ...rows: readonly Keys[]])[] = [
  [
    "Going about",
    ["Jump to a room or a person", [CONTROL, "K"]],
    ["Search messages", [CONTROL, "F"]],
    ["What mentions you, in all rooms", [CONTROL, "Shift", "M"]],
    ["The room above, below", [ALT, "↑"], [ALT, "↓"]],
    ["The next part of the page, the one before", ["F6"], ["Shift", "F6"]],
    ["Close what lies over the page, or the thread", ["Esc"]],
    ["Bring a deleted message back, for some seconds", [CONTROL, "Z"]],
    ["These keys", ["?"], [CONTROL, "/"]],
  ],
  [
    "Writing",
    ["Write, wherever you are", ["any letter"]],
    ["Send", ["Enter"]],
    ["Add files", [CONTROL, "U"]],
    ["Start a new line", ["Shift", "Enter"]],
    ["Edit your last message, from an empty field", ["↑"]],
    ["Give up editing, or replying", ["Esc"]],
    ["Read further up, further down", ["Page Up"], ["Page Down"]],
  ],
  [
    "In the messages",
    ["To the newest in sight", ["Enter"]],
    ["The message above, below", ["↑"], ["↓"]],
    ["What can be done with it", ["Enter"]],
    ["Back to writing", ["Esc"]],
  ],
];

/** The list of all shortcuts. */
export function KeysHelp() {
  const { close } = useOverlays();
  return (
    <Dialog title="Keys" onClose={close}>
      {GROUPS.map(([title, ...rows]) => (
        <section key={title} className={css.group}>
          <h3>{title}</h3>
          <dl>
            {rows.map(([what, ...ways]) => (
              <div key={what}>
                <dt>{what}</dt>
                <dd>
                  {ways.map((way) => (
                    <span key={way.join(" ")} className={css.way}>
                      {way.map((key) => (
                        <kbd key={key}>{key}</kbd>
                      ))}
                    </span>
                  ))}
                </dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
    </Dialog>
  );
}
