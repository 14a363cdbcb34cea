import { LIMITS, USERNAME, type Credentials } from "@hubbub/server/protocol";
import { useEffect, useId, useRef, useState, type FormEvent, type ReactNode } from "react";
import { ChatError, wordsOf } from "../../chat/api.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Icon } from "../ui/Icon.tsx";
import { loadLater } from "../later.ts";
import { useClient } from "../useChat.ts";
import { Wordmark } from "../ui/Wordmark.tsx";
import "./login.css";

type Faults = { username?: string; password?: string; form?: string };

/** Log in and sign up, with the demo people one click away where there are any. */
export function LogIn({ reason, lastName }: { reason: string | null; lastName: string | null }) {
  const chat = useClient();
  const [isNew, setIsNew] = useState(false);
  const [username, setUsername] = useState(lastName ?? "");
  const [password, setPassword] = useState("");
  const [shown, setShown] = useState(false);
  const [faults, setFaults] = useState<Faults>({});
  const [busy, setBusy] = useState(false);
  const [people, setPeople] = useState<Credentials[]>([]);
  const form = useRef<HTMLFormElement>(null);

  useEffect(() => {
    document.title = "Log in - Hubbub";
    chat.demo().then(
      (demo) => setPeople(demo.people),
      () => {},
    );
  }, [chat]);

  // Whoever begins to type will need the rest.
  useEffect(() => form.current?.addEventListener("focusin", loadLater, { once: true }), []);

  // Where a session has ended the focus was on what is gone.
  useEffect(() => {
    if (reason === null) return;
    form.current
      ?.querySelector<HTMLInputElement>(lastName === null ? "[name=username]" : "[name=password]")
      ?.focus();
  }, [reason, lastName]);

  async function enter(credentials: Credentials, signUp: boolean) {
    setBusy(true);
    setFaults({});
    try {
      await (signUp
        ? chat.signUp(credentials.username, credentials.password)
        : chat.logIn(credentials.username, credentials.password));
    } catch (error) {
      setBusy(false);
      setFaults(faultsOf(error, signUp));
    }
  }

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const name = username.trim();
    const found = isNew ? check(name, password) : checkGiven(name, password);
    setFaults(found);
    if (found.username ?? found.password) {
      form.current
        ?.querySelector<HTMLInputElement>(found.username ? "[name=username]" : "[name=password]")
        ?.focus();
      return;
    }
    void enter({ username: name, password }, isNew);
  }

  function choose(signUp: boolean) {
    setIsNew(signUp);
    setFaults({});
    form.current?.querySelector("input")?.focus();
  }

  return (
    <main className="login">
      <section className="login-brand">
        <Wordmark />
        <p className="login-claim">Your team&rsquo;s rooms, on&nbsp;your own server.</p>
        <Chatter />
      </section>
      <section className="login-panel">
        <h1>{isNew ? "Create your account" : "Welcome back"}</h1>
        <p className="login-lead">
          {isNew
            ? "Pick a name. You will be in General a second later."
            : "Log in to go on where you left off."}
        </p>
        {reason !== null && (
          <p className="callout" role="alert">
            <Icon name="lock" /> {reason}
          </p>
        )}
        <form ref={form} onSubmit={onSubmit} noValidate>
          <Field
            label="Username"
            name="username"
            value={username}
            fault={faults.username}
            hint={isNew ? "3 to 32 letters, digits, dots, underscores or hyphens" : undefined}
            autoComplete="username"
            onChange={setUsername}
          />
          <Field
            label="Password"
            name="password"
            type={shown ? "text" : "password"}
            value={password}
            fault={faults.password}
            hint={isNew ? `At least ${LIMITS.passwordMin} characters` : undefined}
            autoComplete={isNew ? "new-password" : "current-password"}
            onChange={setPassword}
            aside={
              <button
                type="button"
                className="field-aside"
                aria-pressed={shown}
                onClick={() => setShown(!shown)}
              >
                {shown ? "Hide" : "Show"}
                <span className="hidden"> password</span>
              </button>
            }
          />
          {faults.form && (
            <p className="fault" role="alert">
              <Icon name="warning" /> {faults.form}
            </p>
          )}
          <button type="submit" className="button button-main button-wide" disabled={busy} aria-busy={busy}>
            {isNew ? "Create account" : "Log in"}
          </button>
        </form>
        <p className="login-switch">
          {isNew ? "You have an account?" : "New here?"}{" "}
          <button type="button" className="link" onClick={() => choose(!isNew)}>
            {isNew ? "Log in" : "Create an account"}
          </button>
        </p>
        {people.length > 0 && (
          <section className="demo" aria-labelledby="demo-title">
            <h2 id="demo-title">Or look around as one of the demo people</h2>
            <ul>
              {people.map((person, index) => (
                <li key={person.username}>
                  <button
                    type="button"
                    className="demo-person"
                    disabled={busy}
                    onClick={() => void enter(person, false)}
                  >
                    <Avatar userId={String(index + 1)} name={person.username} />
                    {person.username}
                  </button>
                </li>
              ))}
            </ul>
          </section>
        )}
      </section>
    </main>
  );
}

type FieldProps = {
  label: string;
  name: string;
  type?: "text" | "password";
  value: string;
  fault: string | undefined;
  hint?: string | undefined;
  autoComplete: string;
  onChange: (value: string) => void;
  aside?: ReactNode;
};

function Field({
  label,
  name,
  type = "text",
  value,
  fault,
  hint,
  autoComplete,
  onChange,
  aside,
}: FieldProps) {
  const id = useId();
  const note = fault ?? hint;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <div className="field-box">
        <input
          id={id}
          name={name}
          type={type}
          value={value}
          autoComplete={autoComplete}
          autoCapitalize="none"
          spellCheck={false}
          aria-invalid={fault !== undefined}
          aria-describedby={note === undefined ? undefined : `${id}-note`}
          onChange={(event) => onChange(event.target.value)}
        />
        {aside}
      </div>
      {note !== undefined && (
        <p id={`${id}-note`} className={fault === undefined ? "field-hint" : "fault"}>
          {note}
        </p>
      )}
    </div>
  );
}

function checkGiven(username: string, password: string): Faults {
  return {
    ...(username === "" && { username: "Enter your username." }),
    ...(password === "" && { password: "Enter your password." }),
  };
}

function check(username: string, password: string): Faults {
  const bytes = new TextEncoder().encode(password).length;
  return {
    ...(!USERNAME.test(username) && {
      username: "3 to 32 letters, digits, dots, underscores or hyphens.",
    }),
    ...(password.length < LIMITS.passwordMin && { password: `At least ${LIMITS.passwordMin} characters.` }),
    ...(bytes > LIMITS.passwordBytes && { password: "This password is too long." }),
  };
}

function faultsOf(error: unknown, signUp: boolean): Faults {
  if (error instanceof ChatError && error.code === "taken")
    return { username: "This name is taken. Try another one." };
  if (error instanceof ChatError && error.code === "unauthorized" && !signUp) {
    return { form: "That username and password do not belong together." };
  }
  if (error instanceof ChatError && error.code === "invalid" && !signUp) {
    return { form: "That username and password do not belong together." };
  }
  return { form: wordsOf(error) };
}

/** A picture of people talking, for the half of the page that has nothing to say. */
function Chatter() {
  return (
    <svg className="chatter" viewBox="0 0 420 320" aria-hidden="true" focusable="false">
      <g className="chatter-far">
        <path d="M276 26h96a24 24 0 0 1 24 24v26a24 24 0 0 1-24 24h-8l-2 18-20-18h-66a24 24 0 0 1-24-24V50a24 24 0 0 1 24-24Z" />
        <path d="M44 120h74a20 20 0 0 1 20 20v18a20 20 0 0 1-20 20H76l-18 16v-16H44a20 20 0 0 1-20-20v-18a20 20 0 0 1 20-20Z" />
      </g>
      <path
        className="chatter-main"
        d="M142 96h158a34 34 0 0 1 34 34v52a34 34 0 0 1-34 34h-92l-34 32v-32h-32a34 34 0 0 1-34-34v-52a34 34 0 0 1 34-34Z"
      />
      <g className="chatter-lines">
        <path d="M142 138h132M142 162h96M142 186h60" />
      </g>
      <path
        className="chatter-warm"
        d="M258 196h94a26 26 0 0 1 26 26v28a26 26 0 0 1-26 26h-8v22l-26-22h-60a26 26 0 0 1-26-26v-28a26 26 0 0 1 26-26Z"
      />
      <g className="chatter-dots">
        <circle cx="282" cy="236" r="6" />
        <circle cx="305" cy="236" r="6" />
        <circle cx="328" cy="236" r="6" />
      </g>
    </svg>
  );
}
