//! Statement sets that come in pieces. A client that cuts its input at semicolons, as psql does, sends the opening with the first INSERT, then each
//! INSERT by itself, and END. Each piece is planned as it comes, so that what is wrong with it is told at once; they run at END, and none of
//! them if one was wrong.

use super::transaction::Block;
use super::{Outcome, Session};
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_planner::{Parsed, SetPiece};

/// What has come of a set.
#[derive(Default)]
pub struct OpenSet {
    pieces: Vec<Parsed>,
    failed: bool,
}

impl OpenSet {
    pub fn fail(&mut self) {
        self.failed = true;
    }
}

impl Session {
    /// How a piece of a set is answered; `None` for a statement that is none.
    pub(super) async fn set_piece(&mut self, parsed: &Parsed) -> Result<Option<Outcome>> {
        let piece = parsed.set_piece();
        let block_failed = self.transaction.block == Block::Failed;
        let Some(failed) = self.open_set.as_ref().map(|set| set.failed || block_failed) else {
            if piece != SetPiece::Opens {
                return Ok(None);
            }
            self.open_set = Some(OpenSet::default());
            return self.add_to_set(parsed, "EXECUTE STATEMENT SET").map(Some);
        };
        match piece {
            SetPiece::Nothing => Ok(None),
            SetPiece::Ends if !failed => self.run_set().await.map(Some),
            // The block that it is in ends with it.
            SetPiece::GivesUp if self.transaction.is_explicit() => {
                self.open_set = None;
                Ok(None)
            }
            // It is the set's END, so the block still waits for its own.
            SetPiece::Ends if block_failed => {
                self.open_set = None;
                Err(super::statement::aborted())
            }
            SetPiece::Ends | SetPiece::GivesUp => {
                self.open_set = None;
                Ok(Some(Outcome::Done("ROLLBACK".into())))
            }
            _ if failed => {
                let message = "current statement set is given up, commands ignored until its END";
                Err(SqlError::new(SqlState::FAILED_TRANSACTION, message))
            }
            SetPiece::Insert => self.add_to_set(parsed, "INSERT 0 0").map(Some),
            SetPiece::Opens | SetPiece::Other => {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, "a statement set holds INSERT statements only");
                Err(error.with_hint("END runs the set, ROLLBACK gives it up."))
            }
        }
    }

    /// How a statement is answered that comes with parameters, of which pieces have none: it may end an open set, and is not run past it. `None` if there
    /// is no set, or nothing to answer.
    pub(super) async fn bound_piece(&mut self, parsed: &Parsed) -> Result<Option<Outcome>> {
        match parsed.set_piece() {
            _ if self.open_set.is_none() => Ok(None),
            SetPiece::Ends | SetPiece::GivesUp | SetPiece::Nothing => self.set_piece(parsed).await,
            SetPiece::Opens | SetPiece::Insert | SetPiece::Other => {
                let error =
                    SqlError::new(SqlState::FAILED_TRANSACTION, "a statement set is open, commands with parameters ignored until its END");
                Err(error.with_hint("END runs the set, ROLLBACK gives it up."))
            }
        }
    }

    fn add_to_set(&mut self, parsed: &Parsed, tag: &str) -> Result<Outcome> {
        self.plan(parsed, &[])?;
        if let Some(set) = &mut self.open_set {
            set.pieces.push(parsed.clone());
        }
        Ok(Outcome::Done(tag.to_string()))
    }

    async fn run_set(&mut self) -> Result<Outcome> {
        let pieces = self.open_set.take().unwrap_or_default().pieces;
        let planned = pieces.iter().map(|piece| self.plan(piece, &[])).collect::<Result<Vec<_>>>()?;
        for (statement, piece) in planned.into_iter().zip(&pieces) {
            self.execute(statement, piece).await?;
        }
        Ok(Outcome::Done("EXECUTE STATEMENT SET".into()))
    }
}
