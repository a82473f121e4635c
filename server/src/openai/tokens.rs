//! Tokens as requests name them.

use motorbrain::TokenId;
use serde::Deserialize;
use utoipa::ToSchema;

/// A token's id.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[schema(as = TokenId)]
pub(crate) struct TokenIdSent(u32);

/// As the brain knows them.
pub(crate) fn tokens(ids: Vec<TokenIdSent>) -> Vec<TokenId> {
    ids.into_iter().map(|TokenIdSent(id)| TokenId(id)).collect()
}
