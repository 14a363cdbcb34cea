import { useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import { isConnected } from "../../chat/state/connection.ts";
import { nameIn } from "../../chat/state/people.ts";
import { isUnderWay } from "../../chat/state/outgoing.ts";
import { useOverlays } from "../overlays.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { IconButton } from "../ui/Button.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./Profile.module.css";
import { chosenTheme, showTheme, THEMES, type Theme } from "./theme.ts";

const THEME_WORDS: Record<Theme, string> = {
  system: "Theme: as the system",
  light: "Theme: light",
  dark: "Theme: dark",
};
const THEME_ICONS = { system: "system", light: "sun", dark: "moon" } as const;

/** The signed-in user, with ways to their account, to administration, and out; and the theme. */
export function Profile() {
  const chat = useClient();
  const me = useMe();
  const name = useChat(({ users }) => nameIn(users, me.id));
  const online = useChat(isConnected);
  const connection = useChat((state) => state.connection);
  const waiting = useChat(
    ({ outgoing, changing }) =>
      outgoing.filter(({ state }) => state !== "sent").length +
      // Log-out sends a deletion that is still held.
      changing.filter((entry) => isUnderWay(entry) && entry.heldUntil === undefined).length,
  );
  const [theme, setTheme] = useState(chosenTheme);
  const { open, ask } = useOverlays();
  const tell = useNotice();

  function nextTheme() {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
    setTheme(next);
    showTheme(next);
  }

  function logOut() {
    chat.logOut().catch((error: unknown) => tell(wordsOf(error)));
  }

  async function askToLogOut() {
    if (waiting === 0) {
      logOut();
      return;
    }
    const [have, them] = waiting === 1 ? ["One message has", "it"] : [`${waiting} messages have`, "them"];
    const isSure = await ask({
      title: "Log out now?",
      text: `${have} not been sent. Logging out throws ${them} away.`,
      yes: "Log out",
      no: "Stay",
    });
    if (isSure) logOut();
  }

  return (
    <footer className={css.profile}>
      <button type="button" className={css.me} onClick={() => open({ is: "account" })}>
        <span className="hidden">Your account: </span>
        <Avatar userId={me.id} name={name} online={online} />
        <span className={css.who}>
          <span className={css.name}>{name}</span>
          <span className={css.state}>
            {online ? "Online" : connection === "offline" ? "Offline" : "Connecting…"}
          </span>
        </span>
      </button>
      {me.role !== undefined && (
        <IconButton icon="shield" label="Administration" onClick={() => open({ is: "administration" })} />
      )}
      <IconButton icon={THEME_ICONS[theme]} label={THEME_WORDS[theme]} onClick={nextTheme} />
      <IconButton icon="exit" label="Log out" onClick={() => void askToLogOut()} />
    </footer>
  );
}
