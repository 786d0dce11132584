// What would become of a request, and why.

import { get, part } from './data.js';
import { card, el, nothing, put } from './ui.js';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

export class Explain {
  constructor() {
    this.method = el('select', { 'aria-label': 'Method' }, METHODS.map((method) => el('option', method)));
    this.url = el('input.grow', { type: 'search', required: true, placeholder: 'http://example.com/path', 'aria-label': 'URL of the request', spellcheck: 'false', autocapitalize: 'off' });
    this.fields = el('textarea', { rows: 2, placeholder: 'Name: value, one a line', 'aria-label': 'Fields of the request, one a line', spellcheck: 'false' });
    this.client = el('input', { type: 'text', placeholder: 'Client address', 'aria-label': 'Address of the client', spellcheck: 'false' });
    this.wrong = el('p.note.bad', { role: 'alert', hidden: true });
    this.result = el('div', { 'aria-live': 'polite' }, nothing('Nothing is sent: it is only said what would be done.'));
    const form = el('form.ask', { onsubmit: (event) => { event.preventDefault(); this.ask(); } },
      el('div.row', this.method, this.url, el('button.strong', { type: 'submit' }, 'Explain')),
      el('details', el('summary', 'Fields and client'), el('div.row', this.fields, this.client)));
    this.node = el('div.view', card('Explain a request', form), this.wrong, card('What would be done', this.result));
  }

  update() {}

  async ask() {
    const url = this.url.value.trim();
    if (!url) return;
    const query = [`url=${part(url)}`, `method=${part(this.method.value)}`, 'format=text'];
    for (const line of this.fields.value.split('\n').map((one) => one.trim()).filter(Boolean)) query.push(`header=${part(line)}`);
    if (this.client.value.trim()) query.push(`client=${part(this.client.value.trim())}`);
    try {
      const said = await get(`/v1/explain?${query.join('&')}`);
      this.wrong.hidden = true;
      this.result.replaceChildren(shown(said.text ?? JSON.stringify(said, null, 2)));
    } catch (error) {
      put(this.wrong, error.message);
      this.wrong.hidden = false;
    }
  }
}

/** The explanation, with the words that its parts begin with set off. */
function shown(text) {
  const line = (text) => {
    const [, word, rest] = /^(\w*)([^]*)$/.exec(text);
    const taken = /^ +[+>]/.test(text) ? 'taken' : /^ +-/.test(text) ? 'passed' : 'plainly';
    return el(`span.${taken}`, word ? el('b', word) : null, `${rest}\n`);
  };
  return el('pre.said', { tabindex: '0' }, text.replace(/\n$/, '').split('\n').map(line));
}
