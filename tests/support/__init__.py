"""What several test modules share: never a fake of the thing under test."""
