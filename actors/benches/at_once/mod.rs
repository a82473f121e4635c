//! An engine that answers at once, on pages: what is left is what the actors cost.

use std::{collections::BTreeMap, sync::Arc, vec::Drain};

use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineInfo, EngineLoader, Held, Interrupt, LoadError, Page, PageSize, Resident, Row,
        RowOutput, Sampled, Slides, SlotIndex, Want, Window,
    },
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
};
use motorbrain_testing::fake_info;

/// Tokens of a page.
const PAGE: usize = 32;

/// Computes nothing: it counts tokens and pages.
struct AtOnce {
    info: EngineInfo,
    slots: BTreeMap<SlotIndex, (usize, Vec<Page>)>,
    next: u32,
    outputs: Vec<RowOutput>,
}

impl Engine for AtOnce {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        self.adopt(&[], &Resident::default())
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        self.next = self.next.wrapping_add(1);
        self.slots.insert(SlotIndex(self.next), (context.len(), held.pages.clone()));
        Ok(SlotIndex(self.next))
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        let (len, pages) = self.slots.get_mut(&slot)?;
        let (keep, needed) = (pages.len(), len.div_ceil(PAGE));
        let new: Vec<Page> = (keep..needed).map(|_| Page::new(Arc::new(()))).collect();
        pages.extend(new.iter().cloned());
        Some(Held { keep, pages: new, kv_len: *len })
    }

    fn pin(&mut self, _slot: SlotIndex, _pinned: usize) {}

    fn close(&mut self, slot: SlotIndex) {
        self.slots.remove(&slot);
    }

    fn rewind(&mut self, _slot: SlotIndex, _context_len: usize) -> Result<(), EngineError> {
        Ok(())
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        for row in rows {
            let sampled = matches!(row.want, Want::Next { .. });
            let (len, _) = self.slots.get_mut(&row.slot).unwrap();
            *len += row.tokens.len() + usize::from(sampled);
            let sampled = sampled.then(|| Sampled { token: TokenId(1), logprob: 0.0, top: Vec::new() });
            self.outputs.push(RowOutput {
                taken: row.tokens.len(),
                context_len: *len,
                sampled,
                hidden: if matches!(row.want, Want::Hidden(_)) { vec![1.0; self.info.hidden] } else { Vec::new() },
                ..RowOutput::default()
            });
        }
        Ok(self.outputs.drain(..))
    }

    fn kv_bytes(&self) -> usize {
        0
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(Deaf)
    }
}

struct Deaf;

impl Interrupt for Deaf {
    fn interrupt(&self) {}
}

/// Makes them.
pub(crate) struct Loader;

impl EngineLoader for Loader {
    fn load(&self) -> Result<Box<dyn Engine>, LoadError> {
        let info = EngineInfo {
            window: Window { size: 1 << 20, sinks: 2, slide: 4, slides: Slides::Shift },
            pages: Some(PageSize { tokens: PAGE, bytes: 64 }),
            ..fake_info()
        };
        Ok(Box::new(AtOnce { info, slots: BTreeMap::new(), next: 0, outputs: Vec::new() }))
    }
}

/// A token a byte.
pub(crate) struct Bytes;

impl Tokenizer for Bytes {
    fn encode_behind(&self, text: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        let (Spelled::Marked(text) | Spelled::Literal(text)) = text;
        Ok(text.bytes().map(|byte| TokenId(u32::from(byte) % 64)).collect())
    }

    fn append(&self, _: &[TokenId], _: &[TokenId], _: &mut Vec<u8>) {}

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Bytes
    }
}
