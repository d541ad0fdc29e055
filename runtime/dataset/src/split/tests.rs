use super::file::parse;
use super::*;

/// Every item is tested once, trains otherwise, and no group is on both sides.
fn check(folds: &Folds, groups: &[usize]) {
    let mut tested = vec![0; groups.len()];
    for split in folds.splits() {
        split.test.iter().for_each(|&item| tested[item] += 1);
        assert_eq!(split.train.len() + split.test.len(), groups.len());
        assert!(split.train.iter().all(|a| split.test.iter().all(|b| groups[*a] != groups[*b])));
        assert!(!split.test.is_empty());
    }
    assert!(tested.iter().all(|&times| times == 1));
}

/// The smallest and largest number of `class` items in a test set.
fn spread_of(folds: &Folds, labels: &[usize], class: usize) -> (usize, usize) {
    let splits = folds.splits();
    let tested = splits.iter().map(|split| split.test.iter().filter(|&&item| labels[item] == class).count());
    (tested.clone().min().unwrap(), tested.max().unwrap())
}

#[test]
fn folds_keep_groups_and_spread_classes() {
    let mut rng = Rng::new(3);
    for seed in 0..20 {
        let groups: Vec<usize> = (0..120).map(|_| rng.below(40)).collect();
        let labels: Vec<usize> = groups.iter().map(|group| group % 4).collect();
        let folds = stratified_folds(&labels, &groups, 5, seed).unwrap();
        check(&folds, &groups);
        for class in 0..4 {
            let sizes = by_class(&groups).into_iter().filter(|(group, _)| group % 4 == class);
            let largest = sizes.map(|(_, members)| members.len()).max().unwrap();
            let (least, most) = spread_of(&folds, &labels, class);
            assert!(most - least <= largest, "{least} to {most}, groups of up to {largest}");
        }
    }
}

#[test]
fn without_groups_classes_differ_by_one_at_most() {
    let labels: Vec<usize> = (0..66).map(|item| item * 7 % 10).collect();
    let groups: Vec<usize> = (0..66).collect();
    let folds = stratified_folds(&labels, &groups, 4, 1).unwrap();
    check(&folds, &groups);
    assert_eq!(folds, stratified_folds(&labels, &groups, 4, 1).unwrap());
    assert_ne!(folds, stratified_folds(&labels, &groups, 4, 2).unwrap());
    for class in 0..10 {
        let (least, most) = spread_of(&folds, &labels, class);
        assert!(most - least <= 1, "{least} to {most}");
    }
    let sizes: Vec<usize> = folds.splits().iter().map(|split| split.test.len()).collect();
    assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
}

#[test]
fn blocks_are_contiguous_within_a_class() {
    let labels = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0];
    let folds = block_folds(&labels, 4).unwrap();
    for class in [0, 1] {
        let run: Vec<usize> = (0..11).filter(|&i| labels[i] == class).map(|i| folds.fold_of()[i]).collect();
        assert!(run.is_sorted() && run[0] == 0 && run[run.len() - 1] == 3, "{run:?}");
    }
    assert_eq!(block_folds(&labels, 6), Err(SplitError::Class { class: 1, items: 5, wanted: 6 }));
}

#[test]
fn one_group_or_a_share_is_held_out() {
    let groups = [7, 3, 7, 9, 3];
    let folds = leave_one_group_out(&groups);
    check(&folds, &groups);
    assert_eq!(folds.splits()[0].test, [1, 4]);

    let labels: Vec<usize> = (0..100).map(|item| item % 5).collect();
    let groups: Vec<usize> = (0..100).collect();
    let split = hold_out(&labels, &groups, 0.3, 4).unwrap();
    for class in 0..5 {
        assert_eq!(split.test.iter().filter(|&&item| labels[item] == class).count(), 6);
    }
    assert_eq!((split.train.len(), split.test.len()), (70, 30));
    assert_eq!(hold_out(&labels, &groups, 1.0, 4), Err(SplitError::Share));
}

#[test]
fn few_shots_of_each_class() {
    let labels: Vec<usize> = (0..60).map(|item| item % 6).collect();
    let split = few_shot(&labels, 3, 0).unwrap();
    for class in 0..6 {
        assert_eq!(split.train.iter().filter(|&&item| labels[item] == class).count(), 3);
    }
    assert_eq!(split.test.len(), 42);
    assert_ne!(split, few_shot(&labels, 3, 1).unwrap());
    assert_eq!(few_shot(&labels, 10, 0), Err(SplitError::Class { class: 0, items: 10, wanted: 11 }));
}

#[test]
fn refuses_what_cannot_be_split() {
    assert_eq!(stratified_folds(&[0, 1], &[0], 2, 0), Err(SplitError::Lengths { labels: 2, groups: 1 }));
    assert_eq!(stratified_folds(&[0, 1], &[0, 1], 1, 0), Err(SplitError::Folds(1)));
    assert_eq!(stratified_folds(&[0, 1], &[5, 5], 2, 0), Err(SplitError::Groups { groups: 1, folds: 2 }));
    let folds = usize::MAX;
    assert_eq!(stratified_folds(&[0, 1], &[5, 6], folds, 0), Err(SplitError::Groups { groups: 2, folds }));
    assert!(block_folds(&[0, 1], folds).is_err() && few_shot(&[0, 1], folds - 1, 0).is_err());
}

#[test]
fn split_files_round_trip_and_name_their_faults() {
    let names = ["a/1.wav", "a/2.wav", "b,1.wav", "b/2.wav"];
    let text = to_csv([("1", names[0]), ("0", names[1]), ("0", names[2])]);
    let splits = parse(&text, names).unwrap();
    assert_eq!(splits[0], Split { train: vec![0], test: vec![1, 2] });
    assert_eq!(splits[1], Split { train: vec![1, 2], test: vec![0] });
    let text = to_csv([("train", names[3]), ("test", names[0])]);
    assert_eq!(parse(&text, names).unwrap(), [Split { train: vec![3], test: vec![0] }]);

    let faults = [
        ("file\na/1.wav\n", SplitError::Column("fold")),
        ("fold\n1\n", SplitError::Column("file")),
        ("fold,file\n0,a/1.wav\n1\n", SplitError::Table { line: 3 }),
        ("fold,file\n0,a/1.wav\n1,c.wav\n", SplitError::File { line: 3, file: "c.wav".into() }),
        ("fold,file\n0,a/1.wav\n1,a/1.wav\n", SplitError::File { line: 3, file: "a/1.wav".into() }),
        ("fold,file\n0,a/1.wav\ntest,a/2.wav\n", SplitError::Fold { line: 2 }),
        ("fold,file\n-1,a/1.wav\n", SplitError::Fold { line: 2 }),
        ("fold,file\n0,a/1.wav\n2,a/2.wav\n", SplitError::EmptyFold(1)),
        ("fold,file\ntrain,a/1.wav\n", SplitError::EmptyFold(1)),
    ];
    for (text, fault) in faults {
        assert_eq!(parse(text, names), Err(fault), "{text}");
    }
}
