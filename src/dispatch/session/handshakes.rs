//! Handshakes under way: each is sent out, and what came of it noted.

use super::Running;
use crate::dispatch::engine::Asked;
use crate::dispatch::errands;
use crate::values::time::UnixMillis;

impl Running {
    /// Asks the receivers whose turn it is.
    pub(super) fn begin_handshakes(&mut self) {
        while let Some(ask) = self.session.engine.take_ask() {
            let handshaker = self.session.handshaker.clone();
            self.send_out(Box::pin(errands::ask(handshaker, ask)));
        }
    }

    pub(super) fn take_reply(&mut self, asked: &Asked) {
        if let Some(tried) = self.session.engine.take_reply(asked, UnixMillis::now()) {
            self.spawn(errands::note_verification(self.session.store.clone(), tried));
        }
    }
}
