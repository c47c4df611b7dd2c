//! A party whose leader's frontend dies.

use mesh::Role;
use nodes::protocol::Act;
use tests::village::seen::PartyShown;
use tests::village::{Land, Plan, story};

#[test]
fn a_party_survives_the_death_of_its_leaders_frontend_and_nobody_is_shown_anything_wrong() {
    let plan = Plan::new([Land::meadow(1, "green", 64, 64)]).with(Role::Frontend, 3);
    story(plan, async |village| {
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 34, 30).await;
        let mut cid = village.person("Cid", 1, 30, 34).await;
        let mut dan = village.person("Dan", 1, 34, 34).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        cid.arrives("frontend-3").await;
        dan.arrives("frontend-3").await;

        let party = ann.does(Act::Invite { player: bob.player }).await;
        assert_eq!(ann.does(Act::Invite { player: cid.player }).await, party, "one party");
        for friend in [&mut bob, &mut cid] {
            let asked = friend.waits_for("an invitation", |seen| {
                seen.notes.iter().find(|note| note.code == "invite").map(|note| note.number)
            });
            assert_eq!(asked.await, party);
            friend.does(Act::Enter { party }).await;
        }
        let members = [ann.player, bob.player, cid.player].into();
        let whole = PartyShown { party, leader: ann.player, members };
        for friend in [&mut ann, &mut bob, &mut cid] {
            friend.waits_until("all three in the party", |seen| seen.party() == whole).await;
        }
        bob.sees_person(ann.player).await;
        bob.waits_until("her party beside Ann's name", |seen| {
            seen.thing(ann.player).is_some_and(|it| it.view.tie == party)
        })
        .await;

        // Her frontend dies; what the others are told from now on is looked at as a whole.
        let told = [bob.seen.parties.len(), cid.seen.parties.len()];
        village.kill("frontend-1");
        ann.arrives("frontend-2").await;
        ann.waits_until("her party", |seen| seen.party() == whole).await;
        assert_eq!(ann.seen.party().leader, ann.player, "she still leads");

        // It works as before: she asks in a fourth, hands over the lead, and leaves.
        assert_eq!(ann.does(Act::Invite { player: dan.player }).await, party);
        dan.waits_until("an invitation", |seen| seen.noted("invite")).await;
        dan.does(Act::Enter { party }).await;
        let mut four = whole.clone();
        four.members.insert(dan.player);
        for friend in [&mut ann, &mut bob, &mut cid, &mut dan] {
            friend.waits_until("all four in the party", |seen| seen.party() == four).await;
        }
        for (friend, told) in [&bob, &cid].into_iter().zip(told) {
            for shown in &friend.seen.parties[told..] {
                assert!(*shown == whole || *shown == four, "{} was shown {shown:?}", friend.name);
            }
        }
        ann.does(Act::Lead { player: bob.player }).await;
        ann.does(Act::Leave {}).await;
        let mut rest = PartyShown { leader: bob.player, ..four };
        rest.members.remove(&ann.player);
        for friend in [&mut bob, &mut cid, &mut dan] {
            friend.waits_until("Bob's party of three", |seen| seen.party() == rest).await;
        }
        ann.waits_until("no party", |seen| seen.party().party == 0).await;
        bob.does(Act::Dissolve {}).await;
        for friend in [&mut bob, &mut cid, &mut dan] {
            friend.waits_until("no party", |seen| seen.party().party == 0).await;
        }
    });
}
