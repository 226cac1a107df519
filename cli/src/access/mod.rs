//! Who may do what: `auth`, `principal`, `key`, `whoami`, `can`, `audit`.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod key;
pub(crate) mod principal;

use queue_protocol::wire::auth::{
    AuthChange, ChangeAuth, PrincipalList, PrincipalName, PrincipalView, Principals,
};
use queue_protocol::wire::requests::ask;

use crate::failure::End;
use crate::grammar::Reasons;
use crate::shell::Shell;

/// Changes who may do what; the version now.
async fn change(shell: &Shell, change: AuthChange, reasons: &Reasons) -> Result<u64, End> {
    let Reasons { because, force } = reasons.clone();
    shell.ask(ask::ChangeAuth(Box::new(ChangeAuth { change, force, because })), None).await
}

/// All principals, or one, and what is said of all.
async fn principals(
    shell: &Shell,
    only: Option<PrincipalName>,
) -> Result<(PrincipalList, Vec<PrincipalView>), End> {
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let asked = Principals { only: only.clone(), after };
        let list = *shell.ask(ask::Principals(asked), None).await?;
        let page = list.principals.clone().into_vec();
        after = page.last().map(|view| view.name.clone());
        all.extend(page);
        if only.is_some() || all.len() >= list.count as usize || after.is_none() {
            return Ok((list, all));
        }
    }
}

/// Grants in one line.
fn grants(list: &[queue_protocol::wire::rights::Grant]) -> String {
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(" ") }
}
