import { Suspense } from "react";
import { forgetLink, useLink } from "./address.ts";
import { Announcer } from "./announce.tsx";
import { later } from "./later.ts";
import { useChat } from "./useChat.ts";
import { Wordmark } from "./ui/Wordmark.tsx";

const LogIn = later(async () => (await import("./login/LogIn.tsx")).LogIn);
const NewPassword = later(async () => (await import("./login/NewPassword.tsx")).NewPassword);
const Shell = later(async () => (await import("./Shell.tsx")).Shell);

export function App() {
  return (
    <>
      <Page />
      <Announcer />
    </>
  );
}

function Page() {
  const session = useChat((state) => state.session);
  const link = useLink();
  if (link?.is === "reset" && session.is !== "checking") {
    return (
      <Suspense fallback={<Splash words="Loading…" />}>
        <NewPassword key={link.code} code={link.code} onDone={() => forgetLink(link)} />
      </Suspense>
    );
  }
  if (session.is === "signed in") {
    return (
      <Suspense fallback={<Splash words="Loading…" />}>
        <Shell key={session.user.id} />
      </Suspense>
    );
  }
  if (session.is === "signed out") {
    const invite = link?.is === "invite" ? link.code : null;
    return (
      <Suspense fallback={<Splash words="Loading…" />}>
        <LogIn key={invite} invite={invite} reason={session.reason} lastName={session.username} />
      </Suspense>
    );
  }
  return <Splash words={session.trouble ? "The server does not answer. Trying again…" : "Loading…"} />;
}

/** The same as in index.html, until the client has loaded. */
function Splash({ words }: { words: string }) {
  return (
    <main className="splash">
      <Wordmark />
      <p aria-live="polite">{words}</p>
    </main>
  );
}
