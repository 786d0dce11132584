// What happened to the process of late.

import { get } from './data.js';
import { happened } from './overview.js';
import { card, el, nothing, put, settled } from './ui.js';

export class Timeline {
  constructor() {
    this.filter = '';
    const type = settled((event) => { this.filter = event.target.value.toLowerCase(); this.draw(); });
    const search = el('input', { type: 'search', placeholder: 'Filter', 'aria-label': 'Filter what happened', oninput: type });
    this.severe = el('input', { type: 'checkbox', onchange: () => this.draw() });
    this.wrong = el('p.note.bad', { role: 'alert', hidden: true });
    this.list = el('ol.events');
    this.messages = [];
    this.node = el('div.view', el('div.row', search, el('label.check', this.severe, ' Warnings and errors only')), this.wrong, card('What happened', this.list));
    this.looked = 0;
  }

  async update() {
    if (Date.now() - this.looked < 4000) return;
    this.looked = Date.now();
    try {
      const { messages } = await get('/v1/timeline?limit=256');
      const is = JSON.stringify(messages);
      this.wrong.hidden = true;
      if (this.is === is) return;
      this.is = is;
      this.messages = messages;
      this.draw();
    } catch (error) {
      put(this.wrong, error.message);
      this.wrong.hidden = false;
    }
  }

  draw() {
    const fits = (one) => (!this.filter || one.text.toLowerCase().includes(this.filter)) && (!this.severe.checked || one.level !== 'info');
    const found = this.messages.filter(fits);
    this.list.replaceChildren(...(found.length ? found.map(happened) : [nothing('Nothing.')]));
  }
}
