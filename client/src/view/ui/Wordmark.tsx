/** "hubbub", drawn with one pen; the last bowl is somebody speaking up. */
export function Wordmark() {
  return (
    <>
      <span className="hidden">Hubbub</span>
      <svg className="wordmark" viewBox="0 0 160 38" aria-hidden="true" focusable="false">
        <circle className="wordmark-voice" cx="148.6" cy="24.6" r="10.4" />
        <g className="wordmark-pen">
          <path d="M4 5v28M4 24.5a7.5 7.5 0 0 1 15 0V33" />
          <path d="M30 17v8.5a7.5 7.5 0 0 0 15 0V17" />
          <path d="M56 5v20" />
          <circle cx="64" cy="25" r="8" />
          <path d="M83 5v20" />
          <circle cx="91" cy="25" r="8" />
          <path d="M109.5 17v8.5a7.5 7.5 0 0 0 15 0V17" />
          <path d="M138.5 5v28" />
        </g>
      </svg>
    </>
  );
}
