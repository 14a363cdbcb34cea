import css from "./Chatter.module.css";

/** A picture of people talking, for the empty half of the page. */
export function Chatter() {
  return (
    <svg className={css.picture} viewBox="0 0 420 320" aria-hidden="true" focusable="false">
      <g className={css.far}>
        <path d="M276 26h96a24 24 0 0 1 24 24v26a24 24 0 0 1-24 24h-8l-2 18-20-18h-66a24 24 0 0 1-24-24V50a24 24 0 0 1 24-24Z" />
        <path d="M44 120h74a20 20 0 0 1 20 20v18a20 20 0 0 1-20 20H76l-18 16v-16H44a20 20 0 0 1-20-20v-18a20 20 0 0 1 20-20Z" />
      </g>
      <path
        className={css.main}
        d="M142 96h158a34 34 0 0 1 34 34v52a34 34 0 0 1-34 34h-92l-34 32v-32h-32a34 34 0 0 1-34-34v-52a34 34 0 0 1 34-34Z"
      />
      <g className={css.lines}>
        <path d="M142 138h132M142 162h96M142 186h60" />
      </g>
      <path
        className={css.warm}
        d="M258 196h94a26 26 0 0 1 26 26v28a26 26 0 0 1-26 26h-8v22l-26-22h-60a26 26 0 0 1-26-26v-28a26 26 0 0 1 26-26Z"
      />
      <g className={css.dots}>
        <circle cx="282" cy="236" r="6" />
        <circle cx="305" cy="236" r="6" />
        <circle cx="328" cy="236" r="6" />
      </g>
    </svg>
  );
}
