/* An extension of JupyterLab: a link to a section of a closed notebook arrives at the section, not at the notebook's top.

JupyterLab 4.6 looks for the section once, as soon as it has the notebook's file. The cells come into the page later, one by
one, so it finds nothing; and what is drawn above a section moves it. This asks again until all cells are drawn and the
section keeps its place. A reader who scrolls, types or clicks meanwhile is left alone. There is nothing to build:
JupyterLab loads this file as it is.
*/
const EVERY = 250; // milliseconds between two looks
const QUIET = 4; // so many looks in a row find the section where it was
const HANDS = ['wheel', 'keydown', 'pointerdown', 'touchstart'];

/* How many pixels the section stands below the upper edge of the notebook; null while it is not drawn. */
function place(notebook, name) {
  const keys = ['id', 'data-jupyter-id'].map(key => `[${key}="${CSS.escape(name)}"]`);
  const section = notebook.node.querySelector(keys.join());
  return section && Math.round(section.getBoundingClientRect().top - notebook.outerNode.getBoundingClientRect().top);
}

async function arrive(panel, fragment) {
  const notebook = panel.content;
  const reader = new AbortController();
  HANDS.forEach(hand => window.addEventListener(hand, () => reader.abort(), { capture: true, signal: reader.signal }));
  for (let at, stayed = 0; stayed < QUIET; ) {
    await new Promise(later => setTimeout(later, EVERY));
    if (reader.signal.aborted || panel.isDisposed || panel.isHidden) break;
    const here = place(notebook, fragment.slice(1));
    const drawn = panel.context.isReady && notebook.widgets.every(cell => !cell.isPlaceholder());
    stayed = drawn && here === at ? stayed + 1 : 0;
    if (here === null || here !== at) {
      await notebook.setFragment(fragment);
      at = place(notebook, fragment.slice(1));
    }
  }
  reader.abort();
}

const plugin = {
  id: 'links-arrive:plugin',
  autoStart: true,
  activate: app => {
    app.commands.commandExecuted.connect(async (commands, { id, args, result }) => {
      if (id !== 'rendermime:handle-local-link' || !args.id) return;
      await Promise.allSettled([result]); // JupyterLab itself says where there is no such file
      for (const panel of app.shell.widgets('main')) {
        if (panel.context?.path === args.path && panel.content.outerNode) arrive(panel, decodeURIComponent(args.id));
      }
    });
  }
};

window._JUPYTERLAB = window._JUPYTERLAB || {};
window._JUPYTERLAB['links-arrive'] = { init() {}, get: async () => () => ({ default: plugin, __esModule: true }) };
